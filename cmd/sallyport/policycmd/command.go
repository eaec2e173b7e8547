// Package policycmd is `sallyport policy`: writing, testing, signing and comparing
// policies. It talks to no gate.
package policycmd

import (
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/policy"
)

// Builtin is what the commands know of the protocols that are built in.
type Builtin struct {
	Protocols []string            // their names
	Scopes    map[string][]string // see policy.Options
	Check     policy.Checker
}

// New makes the command.
func New(b Builtin) *cobra.Command {
	c := cli.Group("policy", "Write, test, sign and compare policies",
		"  sallyport policy check && sallyport policy test --coverage\n  sallyport policy release 7 --expires 90d\n  sallyport policy sign 7 --key ~/.ssh/id_ed25519\n  sallyport policy status",
		newFmt(), b.newCheck(), b.newTest(), b.newExplain(), b.newDiff(), b.newReplay(), b.newExport(),
		b.newRelease(), b.newReview(), newSign(), b.newVerify(), newStatus(), newRoot())
	c.Long = `A policy is a folder, usually a git repository: policy/ holds targets, identity,
rules and tests; trust/ who may sign, and how many; release/ what they signed.
The gate takes nothing else. See docs/policy.md.`
	return c
}

// dirFlag is the policy's folder; most commands are typed inside it.
func dirFlag(c *cobra.Command) *string {
	return c.Flags().String("dir", ".", "the policy's folder")
}

// readDraft reads the unsigned files of a folder, and says in Diags what is wrong with them.
func (b Builtin) readDraft(dir string) (*policy.Draft, error) {
	d, err := policy.ReadDraft(dir, b.Scopes)
	if err != nil {
		return nil, err
	}
	d.CheckOptions(b.Check)
	return d, nil
}

// draft fails on the first error in a folder's files.
func (b Builtin) draft(dir string) (*policy.Draft, error) {
	d, err := b.readDraft(dir)
	if err != nil {
		return nil, err
	}
	return d, d.Err()
}
