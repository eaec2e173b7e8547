package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
)

//go:embed static/style.css static/app.js
var staticFiles embed.FS

// An asset is a file of ours; its path carries its hash, so browsers may keep it.
type asset struct {
	path string
	kind string
	body []byte
}

func loadAssets() (map[string]asset, error) {
	assets := map[string]asset{}
	for name, kind := range map[string]string{"style.css": "text/css; charset=utf-8", "app.js": "text/javascript; charset=utf-8"} {
		body, err := staticFiles.ReadFile("static/" + name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		sum := sha256.Sum256(body)
		assets[name] = asset{path: "/static/" + name + "?v=" + hex.EncodeToString(sum[:6]), kind: kind, body: body}
	}
	return assets, nil
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
