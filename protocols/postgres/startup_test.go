package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/session"
)

// startupBody is a startup message's body of names and values.
func startupBody(version uint32, words ...string) []byte {
	b := binary.BigEndian.AppendUint32(nil, version)
	for _, w := range words {
		b = append(append(b, w...), 0)
	}
	return append(b, 0)
}

func anyTarget(name string) bool { return name == "orders" }

func TestStartupIsRead(t *testing.T) {
	s, err := parseStartup(startupBody(version30, "user", "reader+token", "database", "orders/analytics", "application_name", "tool",
		"options", `-c sallyport.reason=INC-42\ stuck -c work_mem=1MB  --sallyport.duration=30m -csallyport.ticket=OPS-1 -c sallyport.wait=0`, "TimeZone", "UTC"), anyTarget)
	if err != nil {
		t.Fatal(err)
	}
	want := session.Ask{Target: "orders", Role: "reader", Object: "analytics", Reason: "INC-42 stuck", Ticket: "OPS-1", Duration: 30 * time.Minute, NoWait: true}
	want.Need.Databases = []string{"analytics"}
	if got := s.ask; got.Target != want.Target || got.Role != want.Role || got.Object != want.Object || got.Reason != want.Reason ||
		got.Ticket != want.Ticket || got.Duration != want.Duration || got.NoWait != want.NoWait || !slices.Equal(got.Need.Databases, want.Need.Databases) {
		t.Errorf("ask: %+v", got)
	}
	if s.proof != identity.ByToken || s.program != "tool" || s.version != version30 || s.negotiate {
		t.Errorf("%+v", s)
	}
	wantParams := []param{{"application_name", "tool"}, {"options", " -c work_mem=1MB    "}, {"TimeZone", "UTC"}}
	if !slices.Equal(s.params, wantParams) {
		t.Errorf("params: %q", s.params)
	}
}

func TestStartupsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		body []byte
		want string
	}{
		"protocol 2":                         {startupBody(2<<16, "user", "reader", "database", "orders"), "protocol 2.0 is not spoken here"},
		"protocol 4":                         {startupBody(4<<16, "user", "reader", "database", "orders"), "protocol 4.0 is not spoken here"},
		"no end":                             {startupBody(version30, "user", "reader")[:12], "has no end"},
		"no value":                           {append(startupBody(version30)[:4], "user\x00"...), "has no end"},
		"after the end":                      {append(startupBody(version30, "user", "reader", "database", "orders"), "x\x00y\x00\x00"...), "goes on after its end"},
		"twice":                              {startupBody(version30, "user", "reader", "user", "writer", "database", "orders"), `"user" comes twice`},
		"twice in spelling":                  {startupBody(version30, "user", "reader", "database", "orders", "TimeZone", "UTC", "timezone", "CET"), `"timezone" comes twice`},
		"unknown":                            {startupBody(version30, "user", "reader", "database", "orders", "role", "boss"), `"role" does not pass`},
		"replication":                        {startupBody(version30, "user", "reader", "database", "orders", "replication", "false"), "replication connections do not pass"},
		"spelled replication":                {startupBody(version30, "user", "reader", "database", "orders", "Replication", "database"), `"Replication" does not pass`},
		"spelled user":                       {startupBody(version30, "User", "reader", "database", "orders"), `"User" does not pass`},
		"no user":                            {startupBody(version30, "database", "orders"), "no role is named"},
		"only a proof":                       {startupBody(version30, "user", "+token", "database", "orders"), "no role is named"},
		"no database":                        {startupBody(version30, "user", "reader"), "no target is named"},
		"libpq's default":                    {startupBody(version30, "user", "reader", "database", "reader"), "no target is named"},
		"libpq's with proof":                 {startupBody(version30, "user", "reader+token", "database", "reader+token"), "no target is named"},
		"empty object":                       {startupBody(version30, "user", "reader", "database", "orders/"), "dbname is TARGET or TARGET/DATABASE"},
		"empty target":                       {startupBody(version30, "user", "reader", "database", "/analytics"), "dbname is TARGET or TARGET/DATABASE"},
		"role in options":                    {startupBody(version30, "user", "reader", "database", "orders", "options", "-c role=boss"), "role cannot be set"},
		"role spelled":                       {startupBody(version30, "user", "reader", "database", "orders", "options", "-cROLE=boss"), "role cannot be set"},
		"role escaped":                       {startupBody(version30, "user", "reader", "database", "orders", "options", `-c ro\le=boss`), "role cannot be set"},
		"role in long form":                  {startupBody(version30, "user", "reader", "database", "orders", "options", "--role=boss"), "role cannot be set"},
		"authorization":                      {startupBody(version30, "user", "reader", "database", "orders", "options", "--session-authorization=boss"), "session_authorization cannot be set"},
		"library":                            {startupBody(version30, "user", "reader", "database", "orders", "options", "-c local_preload_libraries=x"), "local_preload_libraries cannot be set"},
		"other switches":                     {startupBody(version30, "user", "reader", "database", "orders", "options", "-e"), `"-e" in options does not pass`},
		"a bare word":                        {startupBody(version30, "user", "reader", "database", "orders", "options", "work_mem=1MB"), `"work_mem=1MB" in options does not pass`},
		"no value in options":                {startupBody(version30, "user", "reader", "database", "orders", "options", "-c work_mem"), `"work_mem" in options has no value`},
		"options end":                        {startupBody(version30, "user", "reader", "database", "orders", "options", "-c"), "options end after -c"},
		"our typing error":                   {startupBody(version30, "user", "reader", "database", "orders", "options", "-c sallyport.reasons=x"), "there is no setting"},
		"bad duration":                       {startupBody(version30, "user", "reader", "database", "orders", "options", "-c sallyport.duration=soon"), "is no duration"},
		"bad wait":                           {startupBody(version30, "user", "reader", "database", "orders", "options", "-c sallyport.wait=never"), "sallyport.wait is 0"},
		"quote that PostgreSQL does not see": {startupBody(version30, "user", "reader", "database", "orders", "options", `---csallyport.x="a -c role=boss -c b.c="`), "quotes are for sallyport.* only"},
		"the same behind -c":                 {startupBody(version30, "user", "reader", "database", "orders", "options", `-c --sallyport.x='a -c role=boss -c b.c='`), "quotes are for sallyport.* only"},
		"open quote":                         {startupBody(version30, "user", "reader", "database", "orders", "options", "-c sallyport.reason='x"), "is not closed"},
	} {
		_, err := parseStartup(c.body, anyTarget)
		say, ours := session.Message(err)
		if err == nil || !ours || !strings.Contains(say, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTargetOfTheRolesName(t *testing.T) {
	s, err := parseStartup(startupBody(version30, "user", "orders", "database", "orders"), anyTarget)
	if err != nil || s.ask.Target != "orders" || s.ask.Role != "orders" {
		t.Fatalf("%+v, %v", s.ask, err)
	}
}

func TestNewerMinorIsNegotiated(t *testing.T) {
	for _, c := range []struct {
		asked, spoken uint32
		negotiate     bool
		unknown       []string
		words         []string
	}{
		{version30, version30, false, nil, nil},
		{version32, version32, false, nil, nil},
		{3<<16 | 9999, version32, true, nil, nil},
		{version30, version30, true, []string{"_pq_.test"}, []string{"_pq_.test", "1"}},
	} {
		s, err := parseStartup(startupBody(c.asked, append([]string{"user", "reader", "database", "orders"}, c.words...)...), anyTarget)
		if err != nil || s.version != c.spoken || s.negotiate != c.negotiate || !slices.Equal(s.unknown, c.unknown) {
			t.Errorf("%x: %+v, %v", c.asked, s, err)
		}
	}
}

func TestOptionsAreSplitAsPostgreSQLDoes(t *testing.T) {
	for raw, want := range map[string][]string{
		`-c a=b`:                           {"-c", "a=b"},
		` -c	a=b\ c\\d  `:                  {"-c", `a=b c\d`},
		`-c a='b c'`:                       {"-c", "a='b", "c'"},
		`-c sallyport.reason='b c' -c x=y`: {"-c", "sallyport.reason=b c", "-c", "x=y"},
		`-csallyport.reason="it's"`:        {"-csallyport.reason=it's"},
		`-c sallyport.reason=a'b c'`:       {"-c", "sallyport.reason=a'b", "c'"},
		`-c x=sallyport.reason='b c'`:      {"-c", "x=sallyport.reason='b", "c'"},
		`\`:                                {""},
		"":                                 nil,
	} {
		words, err := splitOptions(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		var got []string
		for _, w := range words {
			got = append(got, w.value)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q", raw, got)
		}
	}
}

func FuzzStartup(f *testing.F) {
	f.Add(startupBody(version30, "user", "reader", "database", "orders"))
	f.Add(startupBody(version32, "user", "reader+token", "database", "orders/x", "options", `-c sallyport.reason='a b' -c work_mem=1MB`, "_pq_.x", "y"))
	f.Add([]byte{0, 3, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) < 4 {
			return
		}
		s, err := parseStartup(body, anyTarget)
		if err != nil {
			if _, ours := session.Message(err); !ours {
				t.Fatalf("refused without a sentence: %v", err)
			}
			return
		}
		if s.ask.Role == "" || s.ask.Target == "" {
			t.Fatal("let through without role or target")
		}
		for _, p := range s.params {
			if !known[strings.ToLower(p.name)] && p.name != "options" {
				t.Fatalf("%q passes", p.name)
			}
			if p.name != "options" {
				continue
			}
			var again startup
			rest, err := again.options(p.value)
			if err != nil || rest != p.value {
				t.Fatalf("options %q pass, and read again: %q, %v", p.value, rest, err)
			}
			if again.ask.Reason != "" || again.ask.Ticket != "" || again.ask.Duration != 0 || again.ask.NoWait {
				t.Fatalf("a setting for the gate is left in %q", p.value)
			}
		}
	})
}

func TestRedact(t *testing.T) {
	const hidden = "'(hidden)'"
	for sql, want := range map[string]string{
		`alter role reader password 'secret'`:                                                   `alter role reader password ` + hidden,
		`ALTER USER "a;b" WITH ENCRYPTED PASSWORD 'it''s' VALID UNTIL 'x'`:                      `ALTER USER "a;b" WITH ENCRYPTED PASSWORD ` + hidden + ` VALID UNTIL 'x'`,
		`/* c /* d */ */ create role x -- y` + "\n" + ` login password 'secret'; select 'seen'`: `/* c /* d */ */ create role x -- y` + "\n" + ` login password ` + hidden + `; select 'seen'`,
		`select 1; alter role r password 'secret'`:                                              `select 1; alter role r password ` + hidden,
		// Nothing that runs may hide.
		`alter role r password 'a'; do $$ begin execute password 'drop table orders'; end $$`: `alter role r password ` + hidden + `; do $$ begin execute password 'drop table orders'; end $$`,
		`select password 'drop table orders'`:                                                 `select password 'drop table orders'`,
		`create domain password as text`:                                                      `create domain password as text`,
		`create table t as select password 'x'`:                                               `create table t as select password 'x'`,
		`alter role r password 'a\'';do $$evil$$;select '`:                                    `alter role r password 'a\'';do $$evil$$;select '`,
		`alter role r password E'a\'';do $$evil$$;select '`:                                   `alter role r password E'a\'';do $$evil$$;select '`,
		`alter role r password $$evil$$`:                                                      `alter role r password $$evil$$`,
		`do $x$ alter role r password 'z' $x$`:                                                `do $x$ alter role r password 'z' $x$`,
		`alter role r password 'open`:                                                         `alter role r password 'open`,
		`alter role r set x = 'seen' password`:                                                `alter role r set x = 'seen' password`,
		`create role r; select password 'seen'`:                                               `create role r; select password 'seen'`,
		`alter database d; create view password as select 'seen'`:                             `alter database d; create view password as select 'seen'`,
		// With standard_conforming_strings off the first string goes on, and what seems to be the second one runs.
		`alter role r set application_name = '\' password '; drop table orders; --'`: `alter role r set application_name = '\' password '; drop table orders; --'`,
		`select '\'; alter role r password '; drop table orders; --'`:                `select '\'; alter role r password '; drop table orders; --'`,
		`alter role r password null`:                                                 `alter role r password null`,
	} {
		if got := redact(sql); got != want {
			t.Errorf("%s\n became %s\n  not %s", sql, got, want)
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("alter role reader password 'secret'; select $$x$$")
	f.Add("create user /* */ u password 'it''s' -- password\n")
	f.Fuzz(func(t *testing.T, sql string) {
		got := redact(sql)
		// Put back, what was hidden is one plain string each time.
		parts := strings.Split(got, "'(hidden)'")
		rest := sql
		for i, part := range parts {
			if !strings.HasPrefix(rest, part) {
				t.Fatalf("%q became %q", sql, got)
			}
			if rest = rest[len(part):]; i == len(parts)-1 {
				break
			}
			if end := quoteEnd(rest, '\''); end < 0 || rest[0] != '\'' || strings.Contains(rest[:end], `\`) {
				t.Fatalf("%q became %q", sql, got)
			} else {
				rest = rest[end:]
			}
		}
		if rest != "" {
			t.Fatalf("%q became %q", sql, got)
		}
	})
}

func TestKeys(t *testing.T) {
	k := keys{live: map[uint32]*key{}}
	cancelled := 0
	cancel := func(context.Context) { cancelled++ }
	pid, secret, drop := k.issue(version30, cancel)
	_, longer, drop2 := k.issue(version32, cancel)
	if len(secret) != 4 || len(longer) != 32 || pid == 0 || pid>>31 != 0 {
		t.Fatalf("pid %d, secrets of %d and %d bytes", pid, len(secret), len(longer))
	}
	k.use(t.Context(), pid, longer)
	k.use(t.Context(), pid, secret[:3])
	k.use(t.Context(), pid+1, secret)
	if cancelled != 0 {
		t.Fatal("a wrong key cancelled")
	}
	k.use(t.Context(), pid, bytes.Clone(secret))
	if cancelled != 1 {
		t.Fatal("the right key did not cancel")
	}
	drop()
	drop2()
	k.use(t.Context(), pid, secret)
	if cancelled != 1 || len(k.live) != 0 {
		t.Fatal("a key outlived its session")
	}
}

func TestScramAgainstRFC7677(t *testing.T) {
	x := &exchange{password: []byte("pencil"), gs2: "n,,", nonce: "rOprNGfwEbeRWgbNEkqO", bare: "n=user,r=rOprNGfwEbeRWgbNEkqO"}
	final, err := x.respond("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
	if err != nil || final != "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=" {
		t.Fatalf("%s, %v", final, err)
	}
	if err := x.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="); err != nil {
		t.Fatal(err)
	}
	for _, outcome := range []string{"v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "v=", "", "e=other-error"} {
		if err := x.verify(outcome); err == nil || !strings.Contains(err.Error(), "does not know the password itself") {
			t.Errorf("%q: %v", outcome, err)
		}
	}
}

func TestScramChallengesThatAreRefused(t *testing.T) {
	for challenge, want := range map[string]string{
		"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096":        "does not go on from ours",
		"r=nonce,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096":        "does not go on from ours",
		"r=noncemore,s=,i=4096":                            "salt cannot be read",
		"r=noncemore,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0":       "SCRAM iterations",
		"r=noncemore,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=9999999": "SCRAM iterations",
		"m=x,r=noncemore,s=W22ZaJ0SNY7soEsUEjb6gQ==":       "cannot be read",
		"": "cannot be read",
	} {
		x := &exchange{password: []byte("pencil"), gs2: "n,,", nonce: "nonce", bare: "n=,r=nonce"}
		if _, err := x.respond(challenge); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", challenge, err)
		}
	}
}

func TestNoPasswordForAPasswordLogin(t *testing.T) {
	if _, _, err := newExchange([]byte("x"), []byte("OTHER\x00\x00"), nil); err == nil || !strings.Contains(err.Error(), "the gate speaks SCRAM-SHA-256") {
		t.Error(err)
	}
	for _, login := range []func() error{
		func() error { return new(server).cleartext(keyring{}) },
		func() error { return new(server).md5(account{}, keyring{}, nil) },
		func() error { return new(server).scram(keyring{}, nil) },
	} {
		if err := login(); !errors.Is(err, errNoPassword) {
			t.Error(err)
		}
	}
}
