package notify

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/session"
)

const (
	// Tries is how often a delivery is tried: at once, and 7 s, 28 s, 112 s and 448 s
	// after the try before, ten minutes in all. A request mostly waits no longer than that.
	Tries = 5

	firstPause = 7 * time.Second
	growth     = 4

	// MaxQueue is how many notices wait for one sink; one more is undelivered at once.
	MaxQueue = 1000

	// closeGrace is how long Close lets deliveries go on that were never tried.
	closeGrace = 3 * time.Second
)

var (
	errFull    = errors.New("too many notices wait already")
	errStopped = errors.New("the gate stopped before it was delivered")
)

// A sink is one way out. Send tries once; it may take people out of d.notice.To who
// have got the notice. Only the sink's own worker calls it.
type sink interface {
	name() string
	wants(n session.Notice) bool
	send(ctx context.Context, d *delivery) error
}

// A delivery is one notice on its way to one sink.
type delivery struct {
	id     string // the same at every try, so that a receiver knows a repetition
	at     time.Time
	notice session.Notice
	tries  int
	due    time.Time
	err    error // of the last try
}

// final marks an error that another try would only meet again.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// Fanout sends each notice to all sinks of a Config. It implements session.Notifier.
type Fanout struct {
	workers []*worker
	cancel  context.CancelFunc
	wait    sync.WaitGroup
}

// New starts one goroutine for each sink of c; Close ends them. Secrets are read from
// set when they are needed.
//
// Undelivered is called for each notice that a sink gave up, with To cut down to those
// who did not get it; err is one line without secrets. The sink is "mail" or "webhook
// NAME". It is called from the sinks' goroutines, several at once, never from Notify;
// the last calls come before Close returns.
func New(c Config, set credential.Set, undelivered func(sink string, n session.Notice, err error), log *slog.Logger) (*Fanout, error) {
	var wrong []error
	for _, p := range c.Check(set) {
		wrong = append(wrong, fmt.Errorf("notify: %s: %s: %s", p.Key, p.Summary, p.Say))
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	var sinks []sink
	for _, w := range c.Webhooks {
		s, err := newWebhook(w, set)
		if err != nil {
			return nil, err
		}
		sinks = append(sinks, s)
	}
	if c.Mail != nil {
		s, err := newMailer(*c.Mail, set)
		if err != nil {
			return nil, err
		}
		sinks = append(sinks, s)
	}
	return start(sinks, firstPause, undelivered, log), nil
}

func start(sinks []sink, first time.Duration, undelivered func(string, session.Notice, error), log *slog.Logger) *Fanout {
	ctx, cancel := context.WithCancel(context.Background())
	f := &Fanout{cancel: cancel}
	for _, s := range sinks {
		w := &worker{sink: s, first: first, undelivered: undelivered, log: log.With("sink", s.name()), wake: make(chan struct{}, 1)}
		f.workers = append(f.workers, w)
		f.wait.Go(func() { w.run(ctx) })
	}
	return f
}

// Notify queues n for every sink and returns at once. After Close it does nothing.
func (f *Fanout) Notify(_ context.Context, n session.Notice) {
	// 130 bits, so that an id is never taken for that of another notice.
	id, now := "msg_"+rand.Text(), time.Now()
	for _, w := range f.workers {
		if w.sink.wants(n) {
			w.add(&delivery{id: id, at: now, notice: n, due: now})
		}
	}
}

// Close takes no more notices, gives those that were never tried a few seconds, reports
// the rest as undelivered, and waits for the goroutines.
func (f *Fanout) Close() {
	for _, w := range f.workers {
		w.close()
	}
	late := time.AfterFunc(closeGrace, f.cancel)
	f.wait.Wait()
	late.Stop()
	f.cancel()
}

// A worker delivers to one sink.
type worker struct {
	sink        sink
	first       time.Duration // before the second try
	undelivered func(string, session.Notice, error)
	log         *slog.Logger
	wake        chan struct{}

	mu     sync.Mutex // guards what follows
	queue  []*delivery
	lost   []*delivery // found the queue full; the worker reports them
	closed bool
}

func (w *worker) add(d *delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return
	case len(w.queue) < MaxQueue:
		w.queue = append(w.queue, d)
	case len(w.lost) < MaxQueue:
		// Not reported here: the caller may hold what the report needs.
		d.err = errFull
		w.lost = append(w.lost, d)
	default:
		w.log.Error("notice dropped, and its report too", "request", d.notice.Request.ID, "kind", d.notice.Kind)
	}
	w.nudge()
}

func (w *worker) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.nudge()
}

func (w *worker) nudge() {
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

func (w *worker) run(ctx context.Context) {
	for {
		lost := w.takeLost()
		for _, d := range lost {
			w.giveUp(d)
		}
		d, pause, done := w.next(time.Now())
		switch {
		case d != nil:
			w.try(ctx, d)
		case done:
			w.mu.Lock()
			rest := append(w.queue, w.lost...)
			w.queue, w.lost = nil, nil
			w.mu.Unlock()
			for _, d := range rest {
				if last := d.err; last != nil {
					d.err = fmt.Errorf("%w; before that: %w", errStopped, last)
				} else {
					d.err = errStopped
				}
				w.giveUp(d)
			}
			return
		default:
			timer := time.NewTimer(pause)
			select {
			case <-w.wake:
			case <-timer.C:
			}
			timer.Stop()
		}
	}
}

func (w *worker) takeLost() []*delivery {
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := w.lost
	w.lost = nil
	return lost
}

// next takes the delivery that has been due longest, or says how long to wait for one.
// Once closed only what was never tried is still due, and done says that nothing is.
func (w *worker) next(now time.Time) (d *delivery, pause time.Duration, done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := -1
	for i, q := range w.queue {
		if (first < 0 || q.due.Before(w.queue[first].due)) && (!w.closed || q.tries == 0) {
			first = i
		}
	}
	if first < 0 {
		return nil, time.Hour, w.closed
	}
	d = w.queue[first]
	if pause = d.due.Sub(now); pause > 0 {
		return nil, pause, false
	}
	w.queue = append(w.queue[:first], w.queue[first+1:]...)
	return d, 0, false
}

// try delivers once, and queues the delivery again where it failed and may yet succeed.
func (w *worker) try(ctx context.Context, d *delivery) {
	if ctx.Err() != nil {
		d.err = errStopped
		w.giveUp(d)
		return
	}
	err := w.sink.send(ctx, d)
	if err == nil {
		w.log.Debug("notice delivered", "request", d.notice.Request.ID, "kind", d.notice.Kind)
		return
	}
	d.tries++
	d.err = err
	if errors.As(err, &final{}) || d.tries == Tries {
		w.giveUp(d)
		return
	}
	w.log.Warn("notice not delivered yet", "request", d.notice.Request.ID, "kind", d.notice.Kind, "try", d.tries, "err", err)
	d.due = time.Now().Add(w.pause(d.tries))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, d)
}

func (w *worker) pause(tries int) time.Duration {
	pause := w.first
	for range tries - 1 {
		pause *= growth
	}
	return pause
}

func (w *worker) giveUp(d *delivery) {
	w.log.Error("notice not delivered", "request", d.notice.Request.ID, "kind", d.notice.Kind, "tries", d.tries, "err", d.err)
	if w.undelivered != nil {
		w.undelivered(w.sink.name(), d.notice, d.err)
	}
}
