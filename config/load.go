package config

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// MaxSize is the greatest proxy.hcl that is read, in bytes.
const MaxSize = 1 << 20

// An Error is everything that is wrong with a file, each with its line.
type Error struct {
	file  *hcl.File
	name  string
	Diags hcl.Diagnostics
}

// Error is the whole report, with snippets of the source.
func (e *Error) Error() string {
	var out strings.Builder
	files := map[string]*hcl.File{}
	if e.file != nil {
		files[e.name] = e.file
	}
	if err := hcl.NewDiagnosticTextWriter(&out, files, 0, false).WriteDiagnostics(e.Diags); err != nil {
		return e.Diags.Error()
	}
	count := "there is one error"
	if n := len(e.Diags.Errs()); n != 1 {
		count = fmt.Sprintf("there are %d errors", n)
	}
	return fmt.Sprintf("%s in %s\n\n%s", count, e.name, strings.TrimSpace(out.String()))
}

// Load reads and checks a proxy.hcl. Protocols are the names that may stand in
// listen blocks beside "web". The error is an *Error with all that was found, or
// says why the file could not be read.
func Load(path string, protocols []string) (*Config, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find configuration: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration %s: %w; type: sallyport init DIR  to make one", path, cause(err))
	}
	if info.Size() > MaxSize {
		return nil, fmt.Errorf("the configuration %s is larger than %d bytes", path, MaxSize)
	}
	// It pins who may sign the policy, so whoever can write to it owns the policy.
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return nil, fmt.Errorf("others can write to the configuration %s (mode %04o); type: chmod go-w %s", path, mode, path)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration %s: %w", path, cause(err))
	}
	return Parse(source, path, protocols)
}

func cause(err error) error {
	if pathErr, ok := err.(*os.PathError); ok { //nolint:errorlint // os.Stat and os.ReadFile return exactly this
		return pathErr.Err
	}
	return err
}

// Parse checks a proxy.hcl whose bytes are at hand; path names it in errors, and
// relative paths are taken from its folder.
func Parse(source []byte, path string, protocols []string) (*Config, error) {
	file, diags := hclsyntax.ParseConfig(source, path, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, &Error{file: file, name: path, Diags: diags}
	}
	file.Bytes = redacted(file)
	c := &Config{Path: path, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(source)), Blocks: digests(file.Body, source)}
	diags = append(diags, misplaced(file.Body)...)
	diags = append(diags, gohcl.DecodeBody(file.Body, nil, c)...)
	v := &checker{c: c, file: file, dir: filepath.Dir(path), protocols: protocols, diags: diags}
	v.check()
	if v.diags.HasErrors() {
		return nil, &Error{file: file, name: path, Diags: v.diags}
	}
	return c, nil
}

// elsewhere are words that people look for here, and that only the signed bundle may say.
var elsewhere = map[string]string{
	"target": "targets.hcl", "targets": "targets.hcl", "upstream": "targets.hcl", "role": "targets.hcl", "roles": "targets.hcl", "address": "targets.hcl",
	"identity": "identity.hcl", "issuer": "identity.hcl", "oidc": "identity.hcl", "client_id": "identity.hcl", "claims": "identity.hcl",
	"rule": "a rules file", "allow": "a rules file", "forbid": "a rules file", "right": "a rules file", "break_glass": "a rules file",
}

// misplaced says, at each such word, where it belongs and why, and takes it out of
// the body, so that the generic error about it is not shown as well.
func misplaced(body hcl.Body) hcl.Diagnostics {
	var diags hcl.Diagnostics
	say := func(word string, at hcl.Range) {
		diags = append(diags, &hcl.Diagnostic{
			Severity: hcl.DiagError, Summary: "Only the signed policy may say this", Subject: at.Ptr(),
			Detail: fmt.Sprintf("Whoever could change %q here would own the policy. Write it in %s of the policy bundle, and have it signed: sallyport policy release.", word, elsewhere[word]),
		})
	}
	top, ok := body.(*hclsyntax.Body)
	if !ok {
		return nil
	}
	kept := top.Blocks[:0]
	for _, block := range top.Blocks {
		if _, found := elsewhere[block.Type]; found {
			say(block.Type, block.TypeRange)
			continue
		}
		kept = append(kept, block)
	}
	top.Blocks = kept
	for name, attr := range top.Attributes {
		if _, found := elsewhere[name]; found {
			say(name, attr.NameRange)
			delete(top.Attributes, name)
		}
	}
	return diags
}

// redacted is the source with everything painted over that stands where a secret is
// named, because people write the secret itself there, and reports go to terminals
// and logs. A webhook's address often holds one too.
func redacted(file *hcl.File) []byte {
	source := bytes.Clone(file.Bytes)
	paint := func(body *hclsyntax.Body, keys ...string) {
		for name, attr := range body.Attributes {
			if len(keys) > 0 && !slices.Contains(keys, name) {
				continue
			}
			at := attr.Expr.Range()
			for i := at.Start.Byte; i < at.End.Byte && i < len(source); i++ {
				if source[i] != '\n' {
					source[i] = '*'
				}
			}
		}
	}
	for _, block := range blocks(file.Body, "credential") {
		paint(block.Body)
	}
	for _, outer := range blocks(file.Body, "notify") {
		paint(outer.Body)
		for _, block := range outer.Body.Blocks {
			paint(block.Body, "secret", "password", "url")
		}
	}
	return source
}

// digests has what stands under each name at the top of the file, digested: two files
// whose digests are the same under a name mean the same by it.
func digests(body hcl.Body, source []byte) map[string][sha256.Size]byte {
	top, ok := body.(*hclsyntax.Body)
	if !ok {
		return nil
	}
	texts := map[string][]byte{}
	add := func(name string, at hcl.Range) {
		tokens, _ := hclsyntax.LexConfig(at.SliceBytes(source), "", hcl.InitialPos) // it has been parsed
		for _, token := range tokens {
			if token.Type != hclsyntax.TokenComment && token.Type != hclsyntax.TokenNewline {
				texts[name] = append(append(texts[name], token.Bytes...), 0)
			}
		}
	}
	for _, block := range top.Blocks {
		add(block.Type, block.Range())
	}
	for name, attr := range top.Attributes {
		add(name, attr.Range())
	}
	all := map[string][sha256.Size]byte{}
	for name, text := range texts {
		all[name] = sha256.Sum256(text)
	}
	return all
}
