package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
)

//go:embed static/style.css static/app.js static/replay.js
var staticFiles embed.FS

// playerFiles is asciinema-player, where `make player` has brought it from npm: else
// nothing but the file that says so, and terminals can be downloaded and not played.
//
//go:embed all:static/player
var playerFiles embed.FS

// playerPolicy is the content security policy of a page that plays a terminal. The
// player's screen is WebAssembly, which lies in the script itself.
var playerPolicy = strings.Replace(policyHeader, "script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'", 1) + "'self'"

// An asset is a file of ours; its path carries its hash, so browsers may keep it.
type asset struct {
	path string
	kind string
	body []byte
}

func loadAssets() (map[string]asset, error) {
	const css, js = "text/css; charset=utf-8", "text/javascript; charset=utf-8"
	assets := map[string]asset{}
	for _, a := range []struct {
		name, kind string
		from       embed.FS
		file       string
	}{
		{"style.css", css, staticFiles, "static/style.css"},
		{"app.js", js, staticFiles, "static/app.js"},
		{"replay.js", js, staticFiles, "static/replay.js"},
		{"player.css", css, playerFiles, "static/player/asciinema-player.css"},
		{"player.js", js, playerFiles, "static/player/asciinema-player.min.js"},
		{"player-licence.txt", "text/plain; charset=utf-8", playerFiles, "static/player/LICENSE"},
	} {
		body, err := a.from.ReadFile(a.file)
		if a.from == playerFiles && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", a.name, err)
		}
		sum := sha256.Sum256(body)
		assets[a.name] = asset{path: "/static/" + a.name + "?v=" + hex.EncodeToString(sum[:6]), kind: a.kind, body: body}
	}
	return assets, nil
}

// player reports that terminals can be played.
func (s *Web) player() bool {
	return s.assets["player.js"].body != nil && s.assets["player.css"].body != nil
}

// paths are where browsers find assets.
func (s *Web) paths(names ...string) []string {
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = s.assets[name].path
	}
	return paths
}

func (s *Web) static(v *visit) error {
	a, ok := s.assets[v.r.PathValue("file")]
	if !ok {
		return &refusal{status: http.StatusNotFound, say: "there is no such page"}
	}
	v.w.Header().Set("Content-Type", a.kind)
	if "/static/"+v.r.PathValue("file")+"?"+v.r.URL.RawQuery == a.path {
		v.w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	_, _ = v.w.Write(a.body) // the browser has gone, or has it
	return nil
}

func (s *Web) healthz(v *visit) error {
	select {
	case <-s.gate.Done():
		return &refusal{status: http.StatusServiceUnavailable, say: "the gate has stopped"}
	default:
	}
	v.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = v.w.Write([]byte("ok\n"))
	return nil
}

func (s *Web) readyz(v *visit) error {
	err := s.gate.Ready()
	if err == nil && s.config.Ready != nil {
		err = s.config.Ready(v.r.Context())
	}
	if err != nil {
		s.logger.Warn("not ready", "err", err)
		return &refusal{status: http.StatusServiceUnavailable, say: "not ready"}
	}
	return s.healthz(v)
}
