package notify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigsThatAreRefused(t *testing.T) {
	noCA := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noCA, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	hook := func(change func(*WebhookConfig)) Config {
		w := WebhookConfig{Name: "alerts", URL: "https://hooks.example.com/gate", Secret: "key"}
		change(&w)
		return Config{Webhooks: []WebhookConfig{w}}
	}
	post := func(change func(*MailConfig)) Config {
		m := MailConfig{Host: "smtp.example.com", From: "gate@example.com", User: "gate", Password: "mail"}
		change(&m)
		return Config{Mail: &m}
	}
	for _, c := range []struct {
		config    Config
		key, want string
	}{
		{hook(func(w *WebhookConfig) { w.Name = "a b" }), "name", "Not a webhook's name"},
		{hook(func(w *WebhookConfig) { w.URL = "hooks.example.com" }), "url", "No URL"},
		{hook(func(w *WebhookConfig) { w.URL = "http://hooks.example.com/gate" }), "url", "Not https"},
		{hook(func(w *WebhookConfig) { w.URL = "http://localhost.example.com/gate" }), "url", "Not https"},
		{hook(func(w *WebhookConfig) { w.URL = "ftp://127.0.0.1/" }), "url", "Not https"},
		{hook(func(w *WebhookConfig) { w.URL = "https://gate:hunter2@hooks.example.com" }), "url", "Password or fragment in the URL"},
		{hook(func(w *WebhookConfig) { w.Secret = "whsec_hunter2" }), "secret", "No such credential"},
		{hook(func(w *WebhookConfig) { w.CA = "/nowhere/ca.pem" }), "ca", "Cannot use the CA"},
		{hook(func(w *WebhookConfig) { w.CA = noCA }), "ca", "Cannot use the CA"},
		{post(func(m *MailConfig) { m.Host = "smtp.example.com:587" }), "host", "Not a host"},
		{post(func(m *MailConfig) { m.Host = "" }), "host", "Not a host"},
		{post(func(m *MailConfig) { m.Port = 70000 }), "port", "Not a port"},
		{post(func(m *MailConfig) { m.Port = 465 }), "port", "Not a port for STARTTLS"},
		{post(func(m *MailConfig) { m.From = "gate" }), "from", "Not an address"},
		{post(func(m *MailConfig) { m.From = "gate@example.com\r\nBcc: eve@example.com" }), "from", "Not an address"},
		{post(func(m *MailConfig) { m.User = "" }), "user", "Password without a user"},
		{post(func(m *MailConfig) { m.Password = "hunter2" }), "password", "No such credential"},
		{post(func(m *MailConfig) { m.Password = "" }), "password", "No such credential"},
		{post(func(m *MailConfig) { m.CA = noCA }), "ca", "Cannot use the CA"},
	} {
		got := c.config.Check(secrets)
		if len(got) != 1 || got[0].Key != c.key || got[0].Summary != c.want || (got[0].Webhook < 0) != (c.config.Mail != nil) {
			t.Errorf("%+v: %+v", c.config, got)
			continue
		}
		f, err := New(c.config, secrets, nil, quiet)
		if f != nil || err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("New: %v", err)
		}
	}
	twice := hook(func(*WebhookConfig) {})
	twice.Webhooks = append(twice.Webhooks, twice.Webhooks[0])
	if got := twice.Check(secrets); len(got) != 1 || got[0].Webhook != 1 || got[0].Summary != "Named twice" {
		t.Errorf("two of one name: %+v", got)
	}
	for _, fine := range []Config{
		{},
		hook(func(*WebhookConfig) {}), post(func(*MailConfig) {}),
		hook(func(w *WebhookConfig) { w.URL = "http://127.0.0.1:8080/gate" }), hook(func(w *WebhookConfig) { w.URL = "http://[::1]/gate" }),
		post(func(m *MailConfig) { m.User, m.Password = "", "" }), post(func(m *MailConfig) { m.Host = "2001:db8::1" }),
		post(func(m *MailConfig) { m.From = "Gate <gate@example.com>" }),
	} {
		f, err := New(fine, secrets, nil, quiet)
		if err != nil {
			t.Errorf("%+v: %v", fine, err)
			continue
		}
		f.Close()
	}
}

func TestShortSigningKeyIsRefused(t *testing.T) {
	for _, text := range []string{"", "hunter2", "whsec_", "whsec_c2hvcnQ=", keyText[len(keyPrefix):], "whsec_" + strings.Repeat("A", 92)} {
		s, _ := secret(text).Read(t.Context())
		if _, err := signingKey(s); err == nil || !strings.HasPrefix(err.Error(), "the signing key is not") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
