-- What a session, a sign-in or a token is about does not change; of a token nothing does.
CREATE TRIGGER sessions_fixed BEFORE UPDATE ON sessions
WHEN NEW.user <> OLD.user OR NEW.target <> OLD.target OR NEW.role <> OLD.role OR NEW.object <> OLD.object OR NEW.grant_id <> OLD.grant_id
BEGIN SELECT RAISE(ABORT, 'transition: what a session is for does not change'); END;
CREATE TRIGGER sign_ins_fixed BEFORE UPDATE ON sign_ins WHEN NEW.user <> OLD.user
BEGIN SELECT RAISE(ABORT, 'transition: a sign-in is one account''s'); END;
CREATE TRIGGER tokens_fixed BEFORE UPDATE ON tokens
BEGIN SELECT RAISE(ABORT, 'transition: a token does not change'); END;
