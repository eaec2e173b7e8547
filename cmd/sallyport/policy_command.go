package main

import (
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/policy"
)

func newPolicyCommand() *cobra.Command {
	c := group("policy", "Write, test, sign and compare policies",
		"  sallyport policy check && sallyport policy test --coverage\n  sallyport policy release 7 --expires 90d\n  sallyport policy sign 7 --key ~/.ssh/id_ed25519\n  sallyport policy status",
		newPolicyFmt(), newPolicyCheck(), newPolicyTest(), newPolicyExplain(), newPolicyDiff(), newPolicyExport(),
		newPolicyRelease(), newPolicyReview(), newPolicySign(), newPolicyVerify(), newPolicyStatus(), newPolicyRoot())
	c.Long = `A policy is a folder, usually a git repository: policy/ holds targets, identity,
rules and tests; trust/ who may sign, and how many; release/ what they signed.
The gate takes nothing else. See docs/policy.md.`
	return c
}

// dirFlag is the policy's folder; most commands are typed inside it.
func dirFlag(c *cobra.Command) *string {
	return c.Flags().String("dir", ".", "the policy's folder")
}

// draft reads the unsigned files of a folder and fails on the first error in them.
func draft(dir string) (*policy.Draft, error) {
	d, err := policy.ReadDraft(dir, scopes())
	if err != nil {
		return nil, err
	}
	return d, d.Err()
}
