package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/session"
)

// webhookTimeout bounds one try, from the look-up of the name to the answer's header.
const webhookTimeout = 10 * time.Second

// keyPrefix begins a signing key as people write it (Standard Webhooks 1.0).
const keyPrefix = "whsec_"

type webhook struct {
	config WebhookConfig
	set    credential.Set
	client *http.Client
}

func newWebhook(c WebhookConfig, set credential.Set) (*webhook, error) {
	roots, err := pool(c.CA)
	if err != nil {
		return nil, fmt.Errorf("webhook %s: %w", c.Name, err)
	}
	return &webhook{config: c, set: set, client: &http.Client{
		Timeout: webhookTimeout,
		// The receiver is the one that was configured, not one that it names.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			DisableKeepAlives:      true, // notices are rare
			MaxResponseHeaderBytes: 64 << 10,
		},
	}}, nil
}

func (w *webhook) name() string { return "webhook " + w.config.Name }

func (w *webhook) wants(session.Notice) bool { return true }

func (w *webhook) send(ctx context.Context, d *delivery) error {
	secret, err := w.set.Read(ctx, w.config.Secret)
	if err != nil {
		return plain("read the signing key", err)
	}
	key, err := signingKey(secret)
	if err != nil {
		return err
	}
	text, err := body(d)
	if err != nil {
		return final{plain("write the notice", err)}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.config.URL, bytes.NewReader(text))
	if err != nil {
		return final{errors.New("the webhook's URL cannot be used")}
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "sallyport")
	req.Header.Set("Webhook-Id", d.id)
	req.Header.Set("Webhook-Timestamp", now)
	req.Header.Set("Webhook-Signature", sign(key, d.id, now, text))
	answer, err := w.client.Do(req)
	if err != nil {
		// The URL is left out: many receivers put a secret into its path.
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err
		}
		return plain("post", err, secret.Reveal(), key)
	}
	_ = answer.Body.Close() // what it says is of no interest
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("the receiver answered %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	}
	return nil
}

// signingKey reads "whsec_" and base64. Bare text is refused: people would choose a word.
func signingKey(secret credential.Secret) ([]byte, error) {
	text, ok := strings.CutPrefix(string(secret.Reveal()), keyPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("the signing key is not \"whsec_\" and the base64 of 24 to 64 bytes; type: echo whsec_$(openssl rand -base64 32)")
	}
	return key, nil
}

// sign makes the value of webhook-signature (Standard Webhooks 1.0, "Signature scheme").
func sign(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
