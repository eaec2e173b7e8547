package store

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/session"
)

// A disk or quota that is full is waited out; one that cannot be written is final.
func TestDisksThatFailAreToldApart(t *testing.T) {
	for _, c := range []struct {
		err  sqlite3.Error
		want error
	}{
		{sqlite3.Error{Code: sqlite3.ErrFull}, audit.ErrFull},
		{sqlite3.Error{Code: sqlite3.ErrIoErr, SystemErrno: syscall.EDQUOT}, audit.ErrFull},
		{sqlite3.Error{Code: sqlite3.ErrIoErr, SystemErrno: syscall.ENOSPC}, audit.ErrFull},
		{sqlite3.Error{Code: sqlite3.ErrIoErr, SystemErrno: syscall.EROFS}, session.ErrStore},
		{sqlite3.Error{Code: sqlite3.ErrReadonly}, session.ErrStore},
		{sqlite3.Error{Code: sqlite3.ErrCorrupt}, session.ErrStore},
		{sqlite3.Error{Code: sqlite3.ErrConstraint}, nil},
	} {
		got := described(fmt.Errorf("commit: %w", c.err))
		for _, kind := range []error{audit.ErrFull, session.ErrStore} {
			if errors.Is(got, kind) != errors.Is(kind, c.want) {
				t.Errorf("%v (%v) is %v, want %v", c.err.Code, c.err.SystemErrno, got, c.want)
			}
		}
	}
}
