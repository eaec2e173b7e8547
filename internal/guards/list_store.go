package guards

var store = []Guard{
	{
		"audit.synchronous", "audit/segments.go",
		"if err := w.file.Sync(); err != nil {\n\t\treturn errors.Join(errUndone, err)",
		"if err := error(nil); err != nil {\n\t\treturn errors.Join(errUndone, err)",
		"./internal/e2e", "TestPowerFails", "what was acknowledged is lost",
	},
	{
		"store.synchronous", "store/store.go",
		`"_synchronous": {"FULL"}`,
		`"_synchronous": {"OFF"}`,
		"./internal/e2e", "TestPowerFails", "what was acknowledged is lost",
	},
	{
		"store.request-outcome", "store/schema.sql",
		"WHEN OLD.state <> 'pending' OR NEW.state NOT IN ('pending',",
		"WHEN NEW.state NOT IN ('pending',",
		"./store", "TestOutcomeIsFinal", "approval race gives two outcomes",
	},
	{
		"store.request-begins", "store/schema.sql",
		"WHEN NEW.state <> 'pending' AND NOT EXISTS (SELECT 1 FROM requests",
		"WHEN 0 AND NOT EXISTS (SELECT 1 FROM requests",
		"./store", "TestTransitionsRefused", "a grant without its approvals",
	},
	{
		"store.grant-needs-approval", "store/schema.sql",
		"OR (SELECT state FROM requests WHERE id = NEW.request) IS NOT 'approved')",
		")",
		"./store", "TestTransitionsRefused", "a grant without its approvals",
	},
	{
		"store.grant-own", "store/schema.sql",
		"AND r.user = NEW.user AND r.target = NEW.target AND r.role = NEW.role AND r.object = NEW.object)",
		"AND 1)",
		"./store", "TestTransitionsRefused", "a remembered yes that matches too widely",
	},
	{
		"store.grant-ends-once", "store/schema.sql",
		"WHEN OLD.state <> 'active' OR NEW.state NOT IN ('active',",
		"WHEN NEW.state NOT IN ('active',",
		"./store", "TestTransitionsRefused", "live connections outlive the grant",
	},
	{
		"store.session-needs-grant", "store/schema.sql",
		"AND g.user = NEW.user AND g.target = NEW.target AND g.role = NEW.role AND g.object = NEW.object))",
		"AND 1))",
		"./store", "TestTransitionsRefused", "a session without a grant",
	},
	{
		"store.signin-ends-once", "store/schema.sql",
		"BEFORE UPDATE ON sign_ins WHEN OLD.state <> 'standing'",
		"BEFORE UPDATE ON sign_ins WHEN 0",
		"./store", "TestTransitionsRefused", "an ended sign-in stands again",
	},
	{
		"store.private", "store/store.go",
		"if info.Mode().Perm()&0o077 != 0 {",
		"if false && (info.Mode().Perm()&0o077 != 0) {",
		"./store", "TestStoreReadableByOthersIsRefused", "secrets in files that others read",
	},
	{
		"store.view-cannot-log", "store/tx.go",
		"if t.encode == nil {",
		"if false && (t.encode == nil) {",
		"./store", "TestViewCannotLog", "state and log differ",
	},
	{
		"store.reserve", "store/store.go",
		"if noRoom(err) && slices.ContainsFunc(jobs,",
		"if false && noRoom(err) && slices.ContainsFunc(jobs,",
		"./store", "TestRestrictionsFindRoomOnAFullDisk", "a revoke on a full disk is undone by the next start",
	},
	{
		"store.reserve-for-restrictions", "store/store.go",
		"if !db.spare.whole() {",
		"if !db.spare.whole() && false {",
		"./store", "TestRestrictionsFindRoomOnAFullDisk", "a revoke on a full disk is undone by the next start",
	},
}
