-- The gate's state. Each table keeps in columns what is searched or constrained,
-- and the whole row as JSON in data. Which state may follow which is enforced here,
-- so that no mistake in the code above can give a request two outcomes.

CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('counter', 0);

CREATE TABLE outbox (counter INTEGER PRIMARY KEY, leaf BLOB NOT NULL, body BLOB NOT NULL) STRICT;

CREATE TABLE requests (
  id TEXT PRIMARY KEY, state TEXT NOT NULL, user TEXT NOT NULL, sign_in TEXT NOT NULL,
  target TEXT NOT NULL, role TEXT NOT NULL, object TEXT NOT NULL, created INTEGER NOT NULL, data TEXT NOT NULL
) STRICT;
CREATE INDEX requests_state ON requests (state, created);
CREATE INDEX requests_user ON requests (user, state);

CREATE TABLE grants (
  id TEXT PRIMARY KEY, state TEXT NOT NULL, user TEXT NOT NULL, sign_in TEXT NOT NULL,
  target TEXT NOT NULL, role TEXT NOT NULL, object TEXT NOT NULL, request TEXT NOT NULL UNIQUE REFERENCES requests (id),
  ends INTEGER NOT NULL, created INTEGER NOT NULL, data TEXT NOT NULL
) STRICT;
CREATE INDEX grants_state ON grants (state, created);
CREATE INDEX grants_user ON grants (user, state);

CREATE TABLE sessions (
  id TEXT PRIMARY KEY, state TEXT NOT NULL, user TEXT NOT NULL, target TEXT NOT NULL, role TEXT NOT NULL, object TEXT NOT NULL,
  grant_id TEXT NOT NULL REFERENCES grants (id), created INTEGER NOT NULL, data TEXT NOT NULL
) STRICT;
CREATE INDEX sessions_state ON sessions (state, created);
CREATE INDEX sessions_user ON sessions (user, created);
CREATE INDEX sessions_grant ON sessions (grant_id, state);

CREATE TABLE sign_ins (
  id TEXT PRIMARY KEY, state TEXT NOT NULL, user TEXT NOT NULL, cookie BLOB NOT NULL, created INTEGER NOT NULL, data TEXT NOT NULL
) STRICT;
CREATE INDEX sign_ins_state ON sign_ins (state, user);
CREATE UNIQUE INDEX sign_ins_cookie ON sign_ins (cookie) WHERE length(cookie) > 0;

CREATE TABLE tokens (
  id TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, created INTEGER NOT NULL, data TEXT NOT NULL
) STRICT;

CREATE TABLE accounts (user TEXT PRIMARY KEY, data TEXT NOT NULL) STRICT;

-- An upsert fires the insert triggers too, so those look whether the row is new.

-- Requests: pending -> approved | denied | withdrawn | timed-out.
CREATE TRIGGER requests_begin BEFORE INSERT ON requests
WHEN NEW.state <> 'pending' AND NOT EXISTS (SELECT 1 FROM requests WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'transition: a request begins pending'); END;
CREATE TRIGGER requests_move BEFORE UPDATE ON requests
WHEN OLD.state <> 'pending' OR NEW.state NOT IN ('pending', 'approved', 'denied', 'withdrawn', 'timed-out')
BEGIN SELECT RAISE(ABORT, 'transition: the request has its outcome'); END;
CREATE TRIGGER requests_fixed BEFORE UPDATE ON requests
WHEN NEW.user <> OLD.user OR NEW.target <> OLD.target OR NEW.role <> OLD.role OR NEW.object <> OLD.object
BEGIN SELECT RAISE(ABORT, 'transition: what was asked does not change'); END;
CREATE TRIGGER requests_keep BEFORE DELETE ON requests
BEGIN SELECT RAISE(ABORT, 'transition: requests are kept'); END;

-- Grants: active -> expired | revoked | released; only out of an approved request.
CREATE TRIGGER grants_begin BEFORE INSERT ON grants
WHEN (NEW.state <> 'active' OR (SELECT state FROM requests WHERE id = NEW.request) IS NOT 'approved')
  AND NOT EXISTS (SELECT 1 FROM grants WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'transition: a grant begins active, from an approved request'); END;
CREATE TRIGGER grants_own BEFORE INSERT ON grants
WHEN NOT EXISTS (SELECT 1 FROM requests r WHERE r.id = NEW.request
  AND r.user = NEW.user AND r.target = NEW.target AND r.role = NEW.role AND r.object = NEW.object)
BEGIN SELECT RAISE(ABORT, 'transition: a grant is for what its request asked'); END;
CREATE TRIGGER grants_move BEFORE UPDATE ON grants
WHEN OLD.state <> 'active' OR NEW.state NOT IN ('active', 'expired', 'revoked', 'released')
BEGIN SELECT RAISE(ABORT, 'transition: the grant has ended'); END;
CREATE TRIGGER grants_fixed BEFORE UPDATE ON grants
WHEN NEW.user <> OLD.user OR NEW.target <> OLD.target OR NEW.role <> OLD.role OR NEW.object <> OLD.object OR NEW.request <> OLD.request
BEGIN SELECT RAISE(ABORT, 'transition: what was granted does not change'); END;
CREATE TRIGGER grants_keep BEFORE DELETE ON grants
BEGIN SELECT RAISE(ABORT, 'transition: grants are kept'); END;

-- Sessions: live -> ended; only under an active grant of the same user, target and role.
CREATE TRIGGER sessions_begin BEFORE INSERT ON sessions
WHEN (NEW.state <> 'live' OR NOT EXISTS (SELECT 1 FROM grants g WHERE g.id = NEW.grant_id AND g.state = 'active'
  AND g.user = NEW.user AND g.target = NEW.target AND g.role = NEW.role AND g.object = NEW.object))
  AND NOT EXISTS (SELECT 1 FROM sessions WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'transition: a session begins live, under its own active grant'); END;
CREATE TRIGGER sessions_move BEFORE UPDATE ON sessions WHEN OLD.state <> 'live' OR NEW.state NOT IN ('live', 'ended')
BEGIN SELECT RAISE(ABORT, 'transition: the session has ended'); END;
CREATE TRIGGER sessions_keep BEFORE DELETE ON sessions
BEGIN SELECT RAISE(ABORT, 'transition: sessions are kept'); END;

-- Sign-ins end once.
CREATE TRIGGER sign_ins_move BEFORE UPDATE ON sign_ins WHEN OLD.state <> 'standing'
BEGIN SELECT RAISE(ABORT, 'transition: the sign-in has ended'); END;
