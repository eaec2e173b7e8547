package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/bundle"
)

// loadPolicy loads the signed bundle at start-up. The log remembers what ran last:
// an older bundle, however well signed, is refused.
// An archive that cannot be had, or is refused, is no reason not to open with the last one.
func (p *program) loadPolicy(ctx context.Context) (*policy.Policy, error) {
	c, log := p.config, p.log
	last, rootFloor, err := lastPolicy(ctx, log)
	if err != nil {
		return nil, err
	}
	o := policyOptions(c, last, rootFloor)
	if _, err := p.bring(ctx, o); err != nil {
		p.logger.Warn("the policy's archive is not taken", "err", err)
	}
	loaded, err := policy.Load(c.Policy.Dir, o)
	if err != nil {
		return nil, errors.Join(err, refusedPolicy(ctx, c, log, err))
	}
	if _, err := log.Record(ctx, loadedPolicy(c, loaded)); err != nil {
		return nil, fmt.Errorf("write down the policy: %w", err)
	}
	return loaded, nil
}

// policyOptions demands what the machine pins, and nothing older than what ran last:
// neither the policy nor the trust root that signs it.
func policyOptions(c *config.Config, last bundle.Pin, rootFloor int) policy.Options {
	return policy.Options{
		Root: policy.RootPin(c.Policy.Root), RootFloor: rootFloor, Floor: c.Policy.MinVersion, Running: last, Now: time.Now(),
		Scopes: scopes(), Check: checkTargets, Config: c.Digest,
	}
}

// lastPolicy finds the newest policy.loaded entry, and the version of the trust root
// that it was signed under. Every start writes one, so it is near the end.
func lastPolicy(ctx context.Context, log *audit.Log) (last bundle.Pin, rootFloor int, err error) {
	const step = 500
	for to := log.State().Size; to > 0; to -= step {
		from := max(0, to-step)
		entries, err := log.Entries(ctx, from, int(to-from))
		if err != nil {
			return bundle.Pin{}, 0, fmt.Errorf("find the last policy in the log: %w", err)
		}
		for i := len(entries) - 1; i >= 0; i-- {
			e := entries[i]
			if e.Type != audit.PolicyLoaded || e.Policy == nil {
				continue
			}
			var body struct {
				RootVersion int `json:"root_version"`
			}
			if err := json.Unmarshal(e.Body, &body); err != nil {
				return bundle.Pin{}, 0, fmt.Errorf("read entry %d, policy.loaded, for the version of its trust root: %w", e.Index, err)
			}
			return bundle.Pin{Version: e.Policy.Version, Digest: e.Policy.Digest}, body.RootVersion, nil
		}
	}
	return bundle.Pin{}, 0, nil
}

// loadedPolicy is the entry that comes before a policy decides anything. It holds what
// was signed and by whom, so that it can be checked years later.
func loadedPolicy(c *config.Config, p *policy.Policy) audit.Event {
	rootVersion, root := p.Root()
	return audit.Event{
		Type: audit.PolicyLoaded, Actor: "gate", Policy: audit.PolicyRef{Version: p.Version(), Digest: p.Digest()},
		Body: map[string]any{
			"name": p.Name(), "commit": p.Commit(), "expires": p.Expires(), "signers": p.Signers(), "root": root, "root_version": rootVersion,
			"manifest": string(p.Manifest()), "signatures": p.Signatures(), "config": c.Digest,
		},
	}
}

// refusedPolicy writes down why a bundle is not loaded, and what was found instead of one:
// whoever tried may take it away again.
func refusedPolicy(ctx context.Context, c *config.Config, log *audit.Log, why error) error {
	body := map[string]any{"why": why.Error(), "config": c.Digest}
	var refused *policy.Refused
	if errors.As(why, &refused) {
		body["step"] = refused.Code
		if refused.Manifest != nil {
			body["digest"] = bundle.Digest(refused.Manifest)
		}
		if len(refused.Manifest)+len(refused.Signatures)*refusedSignature <= refusedMost {
			body["manifest"], body["signatures"] = string(refused.Manifest), refused.Signatures
		}
	}
	_, err := log.Record(ctx, audit.Event{Type: audit.PolicyRefused, Actor: "gate", Body: body})
	return err
}

// What a refused bundle may add to the log, in bytes: nobody vouches for it.
const (
	refusedMost      = 128 << 10 // six times that once it is JSON, at worst
	refusedSignature = 16 << 10
)

// reload reads proxy.hcl again and takes over what can change while the gate runs:
// the policy, the certificates and the credentials. It says what has to wait for a
// restart.
func (p *program) reload(ctx context.Context) error {
	fresh, err := config.Load(p.config.Path, protocolNames())
	if err != nil {
		return fmt.Errorf("the configuration is not reloaded: %w", err)
	}
	later := needRestart(p.config, fresh)
	for _, c := range p.certs {
		if err := c.load(); err != nil {
			return fmt.Errorf("the certificates are not reloaded: %w", err)
		}
	}
	p.secrets.now.Store(&fresh.Set) // before the policy, which may name new ones
	if err := p.reloadPolicy(ctx); err != nil {
		return err
	}
	if _, err := p.log.Record(ctx, audit.Event{
		Type: audit.GateReloaded, Actor: "gate", Body: map[string]any{"config": fresh.Digest, "need_restart": later},
	}); err != nil {
		return fmt.Errorf("write down the reload: %w", err)
	}
	p.logger.Info("reloaded", "policy", p.gate.Policy().Version(), "certificates", len(p.certs), "need_restart", later)
	return nil
}

// bring fetches the policy's archive, where it has one. A refusal is an entry, once.
func (p *program) bring(ctx context.Context, o policy.Options) (fresh bool, err error) {
	if p.archive == nil {
		return false, nil
	}
	fresh, err = p.archive.bring(ctx, o)
	if err != nil && !told(err) && errors.As(err, new(*policy.Refused)) {
		err = errors.Join(err, refusedPolicy(ctx, p.config, p.log, err))
	}
	return fresh, err
}

// poll looks whether the archive has another policy.
func (p *program) poll(ctx context.Context) {
	fresh, err := p.bring(ctx, p.follows())
	if err == nil && fresh {
		err = p.reloadFolder(ctx)
	}
	switch {
	case err != nil && !told(err):
		p.logger.Error("the policy's archive is not taken", "running", p.gate.Policy().Version(), "err", err)
	case err == nil && fresh:
		p.logger.Info("reloaded", "policy", p.gate.Policy().Version())
	}
}

// follows demands of a policy that it comes after the one that runs.
func (p *program) follows() policy.Options {
	running := p.gate.Policy()
	rootFloor, _ := running.Root()
	return policyOptions(p.config, bundle.Pin{Version: running.Version(), Digest: running.Digest()}, rootFloor)
}

// reloadPolicy swaps the policy, or keeps the one that runs.
func (p *program) reloadPolicy(ctx context.Context) error {
	if _, err := p.bring(ctx, p.follows()); err != nil {
		return fmt.Errorf("policy %d goes on: %w", p.gate.Policy().Version(), err)
	}
	return p.reloadFolder(ctx)
}

func (p *program) reloadFolder(ctx context.Context) error {
	running := p.gate.Policy()
	fresh, err := policy.Load(p.config.Policy.Dir, p.follows())
	if err != nil {
		return errors.Join(fmt.Errorf("policy %d goes on: %w", running.Version(), err), refusedPolicy(ctx, p.config, p.log, err))
	}
	if fresh.Digest() == running.Digest() {
		return nil
	}
	// Who may say who somebody is comes first: if that cannot be set up, nothing changes.
	if err := p.people.follow(fresh); err != nil {
		return fmt.Errorf("policy %d goes on: %w", running.Version(), err)
	}
	return p.gate.Reload(ctx, fresh, loadedPolicy(p.config, fresh))
}

// needRestart lists the blocks that changed and are only read at start-up.
func needRestart(now, fresh *config.Config) []string {
	changed := map[string]bool{}
	for _, blocks := range []map[string][sha256.Size]byte{now.Blocks, fresh.Blocks} {
		for name := range blocks {
			changed[name] = now.Blocks[name] != fresh.Blocks[name]
		}
	}
	if _, told := now.Blocks["notify"]; told && changed["credential"] {
		changed["notify"] = true // it keeps the places that it was given
	}
	delete(changed, "credential")
	var names []string
	for name := range changed {
		if changed[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
