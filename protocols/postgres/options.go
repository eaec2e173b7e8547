package postgres

import (
	"fmt"
	"strings"
	"time"

	"github.com/sallyport/sallyport/session"
)

// spaces separate words in options; PostgreSQL uses isspace.
const spaces = " \t\n\v\f\r"

// gatePrefix marks the settings in options that are for the gate.
const gatePrefix = "sallyport."

// forbidden settings change who the session is or what code it loads.
var forbidden = map[string]bool{
	"role": true, "session_authorization": true, "local_preload_libraries": true, "session_preload_libraries": true,
}

// word is one word of options: its value, and where its raw bytes are.
type word struct {
	value    string
	from, to int
	quoted   bool // a part of it stands in quotes
}

// options takes the settings for the gate out of an options parameter and returns
// the rest byte for byte. Of the target's switches only settings pass.
func (s *startup) options(raw string) (rest string, err error) {
	words, err := splitOptions(raw)
	if err != nil {
		return "", err
	}
	var kept strings.Builder
	last := 0
	for i := 0; i < len(words); i++ {
		from, to := words[i].from, words[i].to
		var setting string
		switch v := words[i].value; {
		case v == "-c":
			if i+1 == len(words) {
				return "", &session.Invalid{Field: "options", Hint: "options end after -c; write -c name=value"}
			}
			i++
			setting, to = words[i].value, words[i].to
		case strings.HasPrefix(v, "-c"):
			setting = v[2:]
		case strings.HasPrefix(v, "--"):
			setting = v[2:]
		default:
			return "", &session.Invalid{Field: "options", Hint: fmt.Sprintf("%q in options does not pass this gate; write -c name=value", v)}
		}
		ours, err := s.setting(setting)
		if err != nil {
			return "", err
		}
		if !ours && words[i].quoted { // PostgreSQL knows no quotes here, and would split the word
			return "", &session.Invalid{Field: "options", Hint: fmt.Sprintf("%q in options: quotes are for sallyport.* only; put a backslash before each space", words[i].value)}
		}
		if ours {
			kept.WriteString(raw[last:from])
			last = to
		}
	}
	kept.WriteString(raw[last:])
	return kept.String(), nil
}

// setting reads one name=value. It reports whether it was for the gate.
func (s *startup) setting(text string) (ours bool, err error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return false, &session.Invalid{Field: "options", Hint: fmt.Sprintf("%q in options has no value; write -c name=value", text)}
	}
	// PostgreSQL takes '-' for '_' in these names, and any case.
	name = strings.ReplaceAll(strings.ToLower(name), "-", "_")
	if forbidden[name] {
		return false, &session.Denied{Reason: fmt.Sprintf("%s cannot be set on the way in", name), Next: "name the role as the user"}
	}
	if !strings.HasPrefix(name, gatePrefix) {
		return false, nil
	}
	switch name[len(gatePrefix):] {
	case "reason":
		s.ask.Reason = value
	case "ticket":
		s.ask.Ticket = value
	case "duration":
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return false, &session.Invalid{Field: "duration", Hint: fmt.Sprintf("%q is no duration; write it like 30m or 1h30m", value)}
		}
		s.ask.Duration = d
	case "wait":
		switch value {
		case "0":
			s.ask.NoWait = true
		case "1":
		default:
			return false, &session.Invalid{Field: "wait", Hint: "sallyport.wait is 0 (answer at once) or 1 (hold the connection)"}
		}
	default:
		return false, &session.Invalid{Field: "options", Hint: fmt.Sprintf("there is no setting %q; there are sallyport.reason, sallyport.ticket, sallyport.duration and sallyport.wait", name)}
	}
	return true, nil
}

// splitOptions splits as PostgreSQL's pg_split_opts does: at unescaped white space,
// a backslash taking the next byte as it is. Only the value of a sallyport.* setting
// may stand in quotes instead.
func splitOptions(raw string) ([]word, error) {
	var words []word
	for i := 0; i < len(raw); {
		if strings.IndexByte(spaces, raw[i]) >= 0 {
			i++
			continue
		}
		w := word{from: i}
		var value strings.Builder
		for i < len(raw) && strings.IndexByte(spaces, raw[i]) < 0 {
			if (raw[i] == '\'' || raw[i] == '"') && opensQuote(value.String()) {
				end := strings.IndexByte(raw[i+1:], raw[i])
				if end < 0 {
					return nil, &session.Invalid{Field: "options", Hint: fmt.Sprintf("the quote after %s is not closed", value.String())}
				}
				w.quoted = true
				value.WriteString(raw[i+1 : i+1+end])
				i += end + 2
				continue
			}
			if raw[i] == '\\' {
				if i++; i == len(raw) {
					break
				}
			}
			value.WriteByte(raw[i])
			i++
		}
		w.value, w.to = value.String(), i
		words = append(words, w)
	}
	return words, nil
}

// opensQuote reports that a word so far is the name of a setting for the gate.
func opensQuote(word string) bool {
	name, found := strings.CutSuffix(word, "=")
	name = strings.TrimPrefix(strings.TrimPrefix(name, "--"), "-c")
	return found && strings.HasPrefix(strings.ToLower(name), gatePrefix) && !strings.Contains(name, "=")
}
