package postgres

import "strings"

// redact hides the password in CREATE ROLE and ALTER ROLE (and USER, GROUP) from the
// record. It must not hide anything that runs: only the string behind the word
// PASSWORD is taken out, in a statement that begins with these two words, up to its
// semicolon. From a string with a backslash on everything stays, because where that
// ends depends on a setting. What cannot be read stays as it is.
func redact(sql string) string {
	if !containsFold(sql, "password") {
		return sql
	}
	var out strings.Builder
	last := 0
	words := 0 // of the statement so far; after the second: -1 where it is another statement
	armed := false
	for s := (scanner{text: sql}); s.next(); {
		switch {
		case s.kind == semicolon:
			words, armed = 0, false
		case s.kind == quoted && armed:
			out.WriteString(sql[last:s.from])
			out.WriteString("'(hidden)'")
			last, armed = s.to, false
		case words == 0 && s.is("create", "alter"):
			words = 1
		case words == 1 && s.is("role", "user", "group"):
			words = 2
		case words == 2:
			armed = s.is("password")
		default:
			words, armed = -1, false
		}
	}
	out.WriteString(sql[last:])
	return out.String()
}

func containsFold(s, lower string) bool {
	for i := 0; i+len(lower) <= len(s); i++ {
		if s[i]|0x20 == lower[0] && strings.EqualFold(s[i:i+len(lower)], lower) {
			return true
		}
	}
	return false
}

// The kinds of token that redact tells apart.
const (
	other = iota
	name
	quoted // a plain string in single quotes, without a backslash
	semicolon
)

// scanner splits a statement into tokens, as PostgreSQL's lexer does with
// standard_conforming_strings on.
type scanner struct {
	text     string
	from, to int
	kind     int
}

func (s *scanner) is(words ...string) bool {
	if s.kind != name {
		return false
	}
	for _, w := range words {
		if strings.EqualFold(s.text[s.from:s.to], w) {
			return true
		}
	}
	return false
}

// next finds the next token behind white space and comments. It ends at the end of
// the text, and at what it cannot read.
func (s *scanner) next() bool {
	s.from = s.to
	for {
		rest := s.text[s.from:]
		switch {
		case rest == "":
			return false
		case strings.IndexByte(spaces, rest[0]) >= 0:
			s.from++
			continue
		case strings.HasPrefix(rest, "--"):
			end := strings.IndexAny(rest, "\r\n")
			if end < 0 {
				return false
			}
			s.from += end
			continue
		case strings.HasPrefix(rest, "/*"):
			end := commentEnd(rest)
			if end < 0 {
				return false
			}
			s.from += end
			continue
		}
		break
	}
	return s.token(s.text[s.from:])
}

func (s *scanner) token(rest string) bool {
	switch c := rest[0]; {
	case c == ';':
		s.kind, s.to = semicolon, s.from+1
	case c == '\'' || c == '"':
		end := quoteEnd(rest, c)
		if end < 0 {
			return false
		}
		s.kind, s.to = other, s.from+end
		if c == '\'' {
			if strings.Contains(rest[:end], `\`) {
				return false // it ends elsewhere with standard_conforming_strings off
			}
			s.kind = quoted
		}
	case c == '$':
		tag, ok := dollarTag(rest)
		if !ok {
			s.kind, s.to = other, s.from+1
			break
		}
		end := strings.Index(rest[len(tag):], tag)
		if end < 0 {
			return false
		}
		s.kind, s.to = other, s.from+end+2*len(tag)
	case isNameByte(c):
		n := 1
		for n < len(rest) && (isNameByte(rest[n]) || rest[n] == '$') {
			n++
		}
		s.kind, s.to = name, s.from+n
		if n < len(rest) && rest[n] == '\'' { // E'', B'', X'', N'': their ends follow other rules
			return false
		}
	default:
		s.kind, s.to = other, s.from+1
	}
	return true
}

func isNameByte(c byte) bool {
	return c == '_' || c >= 0x80 || (c|0x20 >= 'a' && c|0x20 <= 'z') || (c >= '0' && c <= '9')
}

func quoteEnd(s string, quote byte) int {
	for i := 1; i < len(s); i++ {
		if s[i] != quote {
			continue
		}
		if i+1 < len(s) && s[i+1] == quote {
			i++
			continue
		}
		return i + 1
	}
	return -1
}

// commentEnd is behind a comment, which may hold comments.
func commentEnd(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			i++
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// dollarTag is $$ or $word$ at the start of s.
func dollarTag(s string) (string, bool) {
	for i := 1; i < len(s); i++ {
		if s[i] == '$' {
			return s[:i+1], true
		}
		if !isNameByte(s[i]) || (i == 1 && s[i] >= '0' && s[i] <= '9') {
			return "", false
		}
	}
	return "", false
}
