package smalldisk

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// An Ext4 is a small disk with a real file system, whose errors the kernel answers as it
// does on a machine: from then on nothing more is written to it, to no open file either.
// A remount cannot do that while a file is open for writing.
type Ext4 struct {
	Disk
	image string
}

// MountExt4 makes one of so many MiB at dir, an empty folder; the test unmounts it at its end.
func MountExt4(t testing.TB, dir string, mib int64) Ext4 {
	t.Helper()
	d := Ext4{Disk{dir}, filepath.Join(t.TempDir(), "ext4")}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, mib<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-F", d.image)
	d.mount(t)
	t.Cleanup(func() { run(t, "umount", "--lazy", dir) })
	return d
}

func (d Ext4) mount(t testing.TB) {
	t.Helper()
	run(t, "mount", "-o", "loop,errors=remount-ro", d.image, d.Dir)
}

// Break has the kernel find an error, so that it makes the file system read-only.
func (d Ext4) Break(t testing.TB) {
	t.Helper()
	device, err := d.device()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/sys/fs/ext4/"+device+"/trigger_fs_error", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
}

// Repair is what a person does: check the disk, and mount it again. Nobody may use it.
func (d Ext4) Repair(t testing.TB) {
	t.Helper()
	run(t, "umount", d.Dir)
	out, err := exec.Command("e2fsck", "-f", "-y", d.image).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) { // 1: errors were corrected
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
	d.mount(t)
}

// losePower is FS_IOC_SHUTDOWN's way of ending a file system without flushing anything, and
// noFlush what it is given (include/uapi/linux/fs.h, EXT4_GOING_FLAGS_NOLOGFLUSH).
const (
	losePower = 0x8004587d
	noFlush   = 2
)

// LosePower is what a power cut does: what the kernel has not yet written to the disk never
// comes there. From then on every write and every sync is an error.
func (d Ext4) LosePower(t testing.TB) {
	t.Helper()
	f, err := os.Open(d.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only to be asked
	if err := unix.IoctlSetPointerInt(int(f.Fd()), losePower, noFlush); err != nil {
		t.Fatalf("cut the disk's power (this test runs as root): %v", err)
	}
}

// Restart mounts it as the machine's next start does. Nobody may use it.
func (d Ext4) Restart(t testing.TB) {
	t.Helper()
	run(t, "umount", d.Dir)
	d.mount(t)
}

// device is what the image is mounted as, such as loop0.
func (d Ext4) device() (string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[1] == d.Dir {
			return filepath.Base(fields[0]), nil
		}
	}
	return "", errors.New("nothing is mounted at " + d.Dir)
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v (this test runs as root): %v\n%s", name, args, err, out)
	}
}
