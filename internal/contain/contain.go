// Package contain keeps a panic to the one connection or statement that met it. A gate
// that ends as a whole by what one client sent would let that client cut everybody.
package contain

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

const frames = 8 // of the stack that an Error tells

// An Error is a panic that was contained. It names the places in the code and a runtime
// error's own text, but no value that the code panicked with: that may be a secret.
type Error struct {
	What  string // "index out of range [3] with length 2", or the value's type
	Where string // "file.go:12 <- other.go:34", the innermost first
}

func (e *Error) Error() string { return "panic: " + e.What + " at " + e.Where }

// Panic turns a panic into *err. It must be deferred itself: defer contain.Panic(&err).
func Panic(err *error) {
	value := recover()
	if value == nil {
		return
	}
	what := fmt.Sprintf("a %T", value)
	if e, ok := value.(runtime.Error); ok {
		what = strings.TrimPrefix(e.Error(), "runtime error: ")
	}
	*err = &Error{What: what, Where: where()}
}

// where is where the panic began: below the runtime's own frames.
func where() string {
	callers := make([]uintptr, 64)
	stack := runtime.CallersFrames(callers[:runtime.Callers(1, callers)])
	var places []string
	began := false
	for len(places) < frames {
		f, more := stack.Next()
		switch inside := strings.HasPrefix(f.Function, "runtime."); {
		case inside && f.Function == "runtime.gopanic":
			began, places = true, nil
		case began && !inside:
			places = append(places, fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line))
		}
		if !more {
			break
		}
	}
	return strings.Join(places, " <- ")
}
