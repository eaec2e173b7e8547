package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sallyport/sallyport/internal/durable"
)

// publishEvery is the least time between two checkpoints in the file. The WAL has
// one for each batch; the file's one is for readers, and bounds a torn tail.
const publishEvery = time.Second

// A publisher writes the tree as C2SP tlog-tiles, behind the WAL: tiles, then the
// checkpoint that covers them. All of it can be derived from the WAL again.
type publisher struct {
	dir  *durable.Dir
	wake chan struct{} // 1 buffered
	fail func(error) error
	full func(error)

	one    sync.Mutex // one publish at a time; guards undone; before mu
	undone []tileFile // taken from done, and not yet written

	mu      sync.Mutex // guards what follows
	levels  [][]byte   // the hashes of the last, partial tile of each level
	count   []int64    // complete tiles of each level
	bundle  []byte     // entries of the last, partial bundle
	size    int64
	floor   int64      // tiles below it are on disk already
	done    []tileFile // complete and not yet written
	under   int64
	signed  []byte
	written []byte     // what the checkpoint file holds
	partial []tileFile // what was written for it
}

type tileFile struct {
	tile tlog.Tile
	data []byte
}

// add takes the next entry.
func (p *publisher) add(leaf []byte, hash tlog.Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bundle == nil {
		p.bundle = make([]byte, 0, torchwood.TileWidth*(len(leaf)+64))
	}
	bundle, err := torchwood.AppendTileEntry(p.bundle, leaf)
	if err != nil {
		panic(err) // a leaf is at most MaxLeaf
	}
	p.bundle = bundle
	p.size++
	for level := 0; ; level++ {
		if level == len(p.levels) {
			p.levels, p.count = append(p.levels, nil), append(p.count, 0)
		}
		p.levels[level] = append(p.levels[level], hash[:]...)
		if len(p.levels[level]) < torchwood.TileWidth*tlog.HashSize {
			return
		}
		n := p.count[level]
		keep := p.size > p.floor
		if keep {
			p.done = append(p.done, tileFile{tile(level, n, torchwood.TileWidth), p.levels[level]})
		}
		if level == 0 {
			if keep {
				p.done = append(p.done, tileFile{tile(-1, n, torchwood.TileWidth), p.bundle})
			}
			p.bundle = nil
		}
		hash = tileRoot(p.levels[level])
		p.levels[level] = nil
		p.count[level]++
	}
}

func tile(level int, n int64, width int) tlog.Tile {
	return tlog.Tile{H: torchwood.TileHeight, L: level, N: n, W: width}
}

// tileRoot is the hash of the complete subtree above a tile's hashes.
func tileRoot(hashes []byte) tlog.Hash {
	var t tree
	for i := 0; i < len(hashes); i += tlog.HashSize {
		t.add(tlog.Hash(hashes[i : i+tlog.HashSize]))
	}
	return t.root()
}

// covered says that the entries added so far are under the signed checkpoint.
func (p *publisher) covered(size int64, signed []byte) {
	p.mu.Lock()
	p.under, p.signed = size, signed
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *publisher) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		if err := p.publish(); err != nil {
			if !durable.IsFull(err) {
				_ = p.fail(err)
				return
			}
			p.full(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(publishEvery):
		}
	}
}

// publish brings tiles and checkpoint up to the last batch.
func (p *publisher) publish() error {
	p.one.Lock()
	defer p.one.Unlock()
	p.mu.Lock()
	p.undone = append(p.undone, p.done...)
	p.done = nil
	signed, stale := p.signed, p.partial
	now := p.partials()
	p.mu.Unlock()
	if string(signed) == string(p.written) {
		return nil
	}
	folders := map[string]bool{}
	for len(p.undone) > 0 {
		if err := p.writeTile(p.undone[0], folders, true); err != nil {
			return err
		}
		p.undone = p.undone[1:]
	}
	for folder := range folders {
		if err := p.dir.SyncDir(folder); err != nil {
			return fmt.Errorf("sync tiles: %w", err)
		}
	}
	for _, t := range now {
		if err := p.writeTile(t, folders, false); err != nil {
			return err
		}
	}
	if err := p.dir.WriteFile(fileCheckpoint, signed, 0o644); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	p.mu.Lock()
	p.written, p.partial = signed, now
	p.mu.Unlock()
	p.removeStale(stale, now)
	return nil
}

// partials are the tiles at the tree's right edge; p.mu is held.
func (p *publisher) partials() []tileFile {
	var edge []tileFile
	for level, hashes := range p.levels {
		if width := len(hashes) / tlog.HashSize; width > 0 {
			// The bytes up to here never change; what is appended later lies behind them.
			edge = append(edge, tileFile{tile(level, p.count[level], width), hashes[:len(hashes):len(hashes)]})
			if level == 0 {
				edge = append(edge, tileFile{tile(-1, p.count[0], width), p.bundle[:len(p.bundle):len(p.bundle)]})
			}
		}
	}
	return edge
}

func (p *publisher) writeTile(t tileFile, folders map[string]bool, lasting bool) error {
	name := torchwood.TilePath(t.tile)
	folder := path.Dir(name)
	if !folders[folder] {
		if _, err := p.dir.Make(folder); err != nil {
			return fmt.Errorf("make tile folder: %w", err)
		}
		folders[folder] = lasting
	}
	f, err := p.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("write tile: %w", err)
	}
	_, err = f.Write(t.data)
	if err == nil && lasting {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write tile: %w", err)
	}
	return nil
}

// removeStale drops partial tiles that no checkpoint needs any more.
func (p *publisher) removeStale(stale, now []tileFile) {
	keep := map[tlog.Tile]bool{}
	for _, t := range now {
		keep[t.tile] = true
	}
	for _, t := range stale {
		if keep[t.tile] {
			continue
		}
		name := torchwood.TilePath(t.tile)
		// A partial tile that stays behind does no harm.
		if err := p.dir.Remove(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			_ = p.dir.Remove(path.Dir(name))
		}
	}
}
