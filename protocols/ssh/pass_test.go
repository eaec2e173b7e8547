package ssh

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// unrecorded is an observer whose record fails.
type unrecorded struct{ observer }

func (unrecorded) down([]byte) error { return io.ErrShortWrite }

func TestOutputIsRecordedBeforeItGoesOn(t *testing.T) {
	var client bytes.Buffer
	p := &pair{watch: unrecorded{}}
	if err := p.pass([]byte("hello"), &client, ""); !errors.Is(err, io.ErrShortWrite) || client.Len() > 0 {
		t.Errorf("%v, and the client got %q", err, client.String())
	}
}
