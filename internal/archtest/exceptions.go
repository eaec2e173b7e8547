package archtest

// bigPackages may be longer than the rest, each up to its own limit.
var bigPackages = map[string]struct {
	lines int
	why   string
}{
	"audit":              {5000, "log and recordings share frame, leaf and recovery: two packages would export what must stay inside"},
	"cmd/sallyport":      {5200, "one file for each verb, and nothing but wiring in it"},
	"proxy":              {2300, "the relay has two engines, which share what a cut owes to a client"},
	"protocols/postgres": {3500, "one wire protocol is one package, whatever its size"},
	"protocols/ssh":      {4000, "one wire protocol is one package, whatever its size"},
	"protocols/http":     {4000, "one wire protocol is one package, whatever its size"},
	"internal/guards":    {7000, "the lists are data: seven lines for each guard, and every new refusal is one"},
	"session":            {5100, "every effect on a grant passes one mutex and one store transaction, the review that broken glass owes too; the files are the parts"},
	"web":                {4000, "one page is one short handler; the templates are beside it"},
	"policy":             {2200, "rules, decision and their reader; conditions and bundles are packages of their own"},
}

// standardTerms are type names with a word of notUsed that is the field's own term.
var standardTerms = map[string]string{
	"internal/devidp.Provider": "an OpenID Provider is what OpenID Connect Core calls it",
}
