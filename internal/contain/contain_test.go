package contain

import (
	"errors"
	"strings"
	"testing"
)

func reads(list []int, i int) (n int, err error) {
	defer Panic(&err)
	return list[i], nil
}

func says(what any) (err error) {
	defer Panic(&err)
	panic(what)
}

func TestPanic(t *testing.T) {
	if n, err := reads([]int{7}, 0); n != 7 || err != nil {
		t.Errorf("without a panic: %d, %v", n, err)
	}
	for text, err := range map[string]error{
		"panic: index out of range [3] with length 1 at contain_test.go:11 <- ": func() error { _, err := reads([]int{7}, 3); return err }(),
		"panic: a string at contain_test.go:16 <- ":                             says("a secret"),
		"panic: a *errors.errorString at contain_test.go:16 <- ":                says(errors.New("a secret")),
	} {
		var e *Error
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), text) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v is not %s...", err, text)
		}
	}
}
