-- What break-glass grants owe: open -> done, once; one for each of them.
CREATE TABLE reviews (
  id TEXT PRIMARY KEY REFERENCES grants (id), state TEXT NOT NULL, user TEXT NOT NULL,
  target TEXT NOT NULL, role TEXT NOT NULL, object TEXT NOT NULL, created INTEGER NOT NULL, data TEXT NOT NULL
) STRICT;
CREATE INDEX reviews_state ON reviews (state, target);
CREATE TRIGGER reviews_begin BEFORE INSERT ON reviews
WHEN NEW.state <> 'open' AND NOT EXISTS (SELECT 1 FROM reviews WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'transition: a review begins open'); END;
CREATE TRIGGER reviews_move BEFORE UPDATE ON reviews WHEN OLD.state <> 'open' OR NEW.state NOT IN ('open', 'done')
BEGIN SELECT RAISE(ABORT, 'transition: the review is done'); END;
CREATE TRIGGER reviews_fixed BEFORE UPDATE ON reviews WHEN NEW.user <> OLD.user OR NEW.target <> OLD.target
BEGIN SELECT RAISE(ABORT, 'transition: what is reviewed does not change'); END;
CREATE TRIGGER reviews_keep BEFORE DELETE ON reviews
BEGIN SELECT RAISE(ABORT, 'transition: reviews are kept'); END;
