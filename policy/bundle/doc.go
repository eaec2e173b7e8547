// Package bundle reads and writes signed policy bundles: what runs is exactly what
// enough people signed.
//
//	policy/...                      targets, identity, rules, tests, CA files
//	trust/root.1                    who may sign, and how many: an allowed_signers file
//	trust/root.2                    its successor, with trust/root.2.<who>.sig
//	release/7/MANIFEST              version, expiry, and the digest of every file
//	release/7/MANIFEST.<who>.sig    SSHSIG, namespace policy@sallyport
//
// Open trusts nothing about the folder but the pinned digest of a trust root. All
// that it judges are bytes that it has read once. Signatures are those of
// ssh-keygen -Y sign (OpenSSH, PROTOCOL.sshsig), and stock tools verify all of it:
//
//	ssh-keygen -Y verify -f trust/root.1 -I alice -n policy@sallyport -s release/7/MANIFEST.alice.sig < release/7/MANIFEST
//	sed '1,/^$/d' release/7/MANIFEST | sha256sum --check --strict
//
// Of allowed_signers only what a policy needs is taken: one name a line, and the
// option namespaces="policy@sallyport". Everything else is refused, not ignored:
// certificate authorities, validity times, patterns, lists of names.
package bundle
