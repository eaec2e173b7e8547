package session

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
)

// Store keeps the gate's state. It is used by many goroutines at once.
type Store interface {
	// Update runs fn in one serializable transaction. Events that fn logs become
	// outbox rows of the same transaction. Once it returns nil the change is on
	// disk, and the position is the last counter logged (0: none). An error from fn
	// or from the disk leaves nothing changed; audit.ErrFull and ErrStore are the disk's.
	Update(ctx context.Context, fn func(Tx) error) (counter uint64, err error)
	// Restrict is Update for what takes away: it also finds room on a full disk, for a
	// while. fn may run twice, and only the last run counts.
	Restrict(ctx context.Context, fn func(Tx) error) (counter uint64, err error)
	// View runs fn on one consistent snapshot; fn must not save or log.
	View(ctx context.Context, fn func(Tx) error) error
	// Outbox returns up to limit rows with counters above after, in order.
	Outbox(ctx context.Context, after uint64, limit int) ([]audit.Pending, error)
	// Logged forgets the outbox rows up to counter, which the log has made durable.
	Logged(ctx context.Context, counter uint64) error
	// Counter is the highest counter that was ever given out.
	Counter(ctx context.Context) (uint64, error)
}

// A Tx reads and changes state inside one transaction. Each Save inserts or, where
// the state's transition is allowed, updates; the database itself refuses others
// with ErrTransition. Reading what is not there is ErrNotFound.
type Tx interface {
	Request(id string) (Request, error)
	Requests(f Filter) ([]Request, error)
	SaveRequest(r Request) error

	Grant(id string) (Grant, error)
	Grants(f Filter) ([]Grant, error)
	SaveGrant(g Grant) error

	Review(id string) (Review, error)
	Reviews(f Filter) ([]Review, error)
	SaveReview(r Review) error

	Session(id string) (Record, error)
	Sessions(f Filter) ([]Record, error)
	SaveSession(r Record) error

	SignIn(id string) (identity.SignIn, error)
	SignInByCookie(hash [32]byte) (identity.SignIn, error)
	SignIns(f Filter) ([]identity.SignIn, error)
	SaveSignIn(s identity.SignIn) error

	// Token finds a token by the SHA-256 of its secret.
	Token(hash [32]byte) (identity.TokenRecord, error)
	SaveToken(t identity.TokenRecord) error

	// Account is what is kept of a user between sign-ins.
	Account(userID string) (identity.Account, error)
	Accounts() ([]identity.Account, error)
	SaveAccount(a identity.Account) error

	// Log adds an event to the outbox.
	Log(e audit.Event) error
}

// A Cursor is a row's place in a listing: newest first, and by ID within one instant.
// Without an ID it stands before all that was made at that time.
type Cursor struct {
	Created time.Time
	ID      string
}

// Filter selects rows; the zero Filter selects all. Newest first.
type Filter struct {
	State  string // a state's word; for sessions "live" or "ended"; for reviews ReviewOpen or ReviewDone; for sign-ins "standing" or "ended"
	User   string // identity.User.ID
	Target string
	Role   string
	Object *string
	Grant  string
	SignIn string
	Before Cursor    // only what a listing shows behind this row
	Since  time.Time // created at or after
	Limit  int
}
