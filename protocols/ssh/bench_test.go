package ssh_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/internal/sshdtest"
)

// ways are OpenSSH's client straight to the target, and through the gate. Compare
// them within one run.
func ways(b *testing.B) map[string][]string {
	b.Helper()
	w := newWorld(b, setup{})
	path := filepath.Join(b.TempDir(), "id")
	key := sshdtest.Key(b, path)
	must(b, os.WriteFile(filepath.Join(w.sshd.Dir, "authorized_keys"), []byte(sshdtest.Line(key.PublicKey())), 0o644))
	common := []string{"-F", w.config, "-c", "aes128-gcm@openssh.com", "-o", "LogLevel=ERROR"}
	return map[string][]string{
		"direct": append(common[:len(common):len(common)], "-i", path, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-p", w.sshd.Port(), w.sshd.Account+"@127.0.0.1"),
		"gate":   append(append(common[:len(common):len(common)], w.certificate(b, gatetest.Alice)...), "ops@web-1@gate"),
		"digest": append(append(common[:len(common):len(common)], w.certificate(b, gatetest.Alice)...), "ops@bulk@gate"),
	}
}

func run(b *testing.B, args []string, command string, out io.Writer) {
	b.Helper()
	cmd := exec.Command("ssh", append(args[:len(args):len(args)], command)...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	must(b, cmd.Run())
}

// BenchmarkBulk moves 256 MiB of a command's output; the gate records it in full, or
// by its digest.
func BenchmarkBulk(b *testing.B) {
	for name, args := range ways(b) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(256 << 20)
			for b.Loop() {
				run(b, args, "yes a line of text that is neither long nor short | head -c 256M", io.Discard)
			}
		})
	}
}

// BenchmarkHandshake is a whole ssh with a command that does nothing.
func BenchmarkHandshake(b *testing.B) {
	for name, args := range ways(b) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				run(b, args, "true", io.Discard)
			}
		})
	}
}
