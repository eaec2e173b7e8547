package audit

import "fmt"

// references checks that what entries say of requests, grants and sessions fits
// together: nothing ends that did not begin, nothing has two outcomes, and no grant
// stands without approval.
type references struct {
	requests map[string]*requestTrace
	grants   map[string]bool // false: ended
	sessions map[string]bool // false: ended
}

type requestTrace struct {
	approvals int
	outcome   string
}

func newReferences() *references {
	return &references{requests: map[string]*requestTrace{}, grants: map[string]bool{}, sessions: map[string]bool{}}
}

// check takes the next entry, and says what of it does not fit.
func (r *references) check(f Fields) []string {
	switch f.Type {
	case RequestCreated:
		if r.requests[f.Request] != nil {
			return []string{fmt.Sprintf("request %s is created twice", f.Request)}
		}
		r.requests[f.Request] = &requestTrace{}
	case ApprovalGiven:
		switch t := r.requests[f.Request]; {
		case t == nil:
			return []string{fmt.Sprintf("an approval of request %s, which was never made", f.Request)}
		case t.outcome != "":
			return []string{fmt.Sprintf("an approval of request %s after its outcome, %s", f.Request, t.outcome)}
		default:
			t.approvals++
		}
	case ApprovalTaken:
		t := r.requests[f.Request]
		if t == nil || t.approvals == 0 {
			return []string{fmt.Sprintf("an approval of request %s is taken back, which was never given", f.Request)}
		}
		t.approvals--
	case RequestApproved, RequestDenied, RequestWithdrawn, RequestTimedOut:
		return r.outcome(f)
	case GrantActive:
		return r.grant(f)
	case GrantExpired, GrantRevoked, GrantReleased:
		return once(r.grants, f.Grant, "grant "+f.Grant)
	case SessionStarted:
		var bad []string
		if _, known := r.sessions[f.Session]; known {
			bad = append(bad, fmt.Sprintf("session %s starts twice", f.Session))
		}
		r.sessions[f.Session] = true
		if running, known := r.grants[f.Grant]; !known {
			bad = append(bad, fmt.Sprintf("session %s starts under grant %s, which was never given", f.Session, f.Grant))
		} else if !running {
			bad = append(bad, fmt.Sprintf("session %s starts under grant %s, which had ended", f.Session, f.Grant))
		}
		return bad
	case SessionEnded:
		return once(r.sessions, f.Session, "session "+f.Session)
	}
	return nil
}

func (r *references) outcome(f Fields) []string {
	t := r.requests[f.Request]
	if t == nil {
		return []string{fmt.Sprintf("an outcome of request %s, which was never made", f.Request)}
	}
	var bad []string
	if t.outcome != "" {
		bad = append(bad, fmt.Sprintf("request %s has two outcomes, %s and %s", f.Request, t.outcome, f.Type))
	}
	t.outcome = f.Type
	if f.Type == RequestApproved && t.approvals == 0 {
		bad = append(bad, fmt.Sprintf("request %s is approved, and nobody approved it", f.Request))
	}
	return bad
}

func (r *references) grant(f Fields) []string {
	var bad []string
	if _, known := r.grants[f.Grant]; known {
		bad = append(bad, fmt.Sprintf("grant %s is given twice", f.Grant))
	}
	r.grants[f.Grant] = true
	if t := r.requests[f.Request]; t == nil || t.outcome != RequestApproved {
		bad = append(bad, fmt.Sprintf("grant %s is given, and its request %s was not approved", f.Grant, f.Request))
	}
	return bad
}

// once ends something that has begun and not ended.
func once(all map[string]bool, id, what string) []string {
	running, known := all[id]
	all[id] = false
	switch {
	case !known:
		return []string{what + " ends and never began"}
	case !running:
		return []string{what + " ends twice"}
	}
	return nil
}
