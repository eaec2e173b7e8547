package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/session"
)

func newRecordings() *cobra.Command {
	list := listing[session.Record]{
		path: "/api/v1/recordings", key: "recordings", none: "There are no recordings that you may see.",
		head: []string{"SESSION", "USER", "TARGET", "ROLE", "STARTED", "ENDED", "CAUSE"},
		row: func(r session.Record) []string {
			return []string{r.ID, r.User.String(), r.Key.Target, r.Key.Role, cli.Clock(r.Started), cli.Clock(r.Ended), cli.OrDash(r.Cause)}
		},
	}
	return cli.Group("recordings", "See and check what happened in sessions", "  sallyport recordings list\n  sallyport recordings verify 7Q2KMX --config /etc/sallyport/proxy.hcl",
		list.command("List the recordings that the policy lets you see", "  sallyport recordings list --target orders", "live or ended"),
		newRecordingsShow(), newRecordingsVerify())
}

func newRecordingsShow() *cobra.Command {
	var flags clientFlags
	c := &cobra.Command{
		Use: "show SESSION", Short: "Show what happened in a session; that you looked is recorded", Args: cobra.ExactArgs(1), ValidArgsFunction: completeIDs(&flags, "recordings", ""),
		Example: "  sallyport recordings show 7Q2KMX\n  sallyport recordings show 7Q2KMX --json | jq -r .sql",
	}
	flags.add(c)
	asJSON := c.Flags().Bool("json", false, "print the recording's own lines of JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		gate, err := flags.signedIn()
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if err := gate.get(c.Context(), apiPath("recordings", args[0]), nil, &raw); err != nil {
			return err
		}
		if *asJSON {
			_, err := c.OutOrStdout().Write(raw)
			return err
		}
		return printRecording(c.OutOrStdout(), raw)
	}
	return c
}

// printRecording prints each line of a recording as a person reads it: when, what
// kind, and what is in it.
func printRecording(w io.Writer, raw []byte) error {
	scanner := bufio.NewScanner(bytes.NewReader(raw))
	scanner.Buffer(nil, maxAnswer)
	for scanner.Scan() {
		text, err := recordingLine(scanner.Bytes())
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return scanner.Err()
}

// recorded is the part of a recording's line that a person reads.
type recorded struct {
	Kind     string            `json:"k"`
	At       time.Time         `json:"at"`
	SQL      string            `json:"sql"`
	SQLBytes []byte            `json:"sql_b64"` // instead of sql, where that is no UTF-8
	Binds    []json.RawMessage `json:"binds"`
	Tag      string            `json:"tag"`
	Rows     int64             `json:"rows"`
	Bytes    int64             `json:"bytes"`
	SQLState string            `json:"sqlstate"`
	Message  string            `json:"message"`
	Took     int64             `json:"took_us"`
	Text     string            `json:"text"`
	Method   string            `json:"method"`
	Path     string            `json:"path"`
	Status   int               `json:"status"`
	Call     string            `json:"call"`
	Sent     int64             `json:"sent"`
	Cut      bool              `json:"cut"`

	What      string `json:"kind"` // of a query: for SSH what the channel is for
	Code      string `json:"code"`
	Data      string `json:"data"`
	DataBytes []byte `json:"data_b64"`
	Name      string `json:"name"`
	NameBytes []byte `json:"name_b64"`
	Direction string `json:"direction"`
	Size      int64  `json:"size"`
	N         int64  `json:"n"`
	Offset    int64  `json:"offset"`
	SHA256    string `json:"sha256"`
}

func recordingLine(raw []byte) (string, error) {
	var r recorded
	if err := json.Unmarshal(raw, &r); err != nil {
		return "", fmt.Errorf("read the recording: %w", err)
	}
	at := r.At.UTC().Format("15:04:05.000") + "  "
	switch r.Kind {
	case "query":
		text := at + safeLines(r.channel()+r.SQL+string(r.SQLBytes))
		for i, b := range r.Binds {
			text += fmt.Sprintf("\n              $%d = %s", i+1, cli.Safe(string(b)))
		}
		return text, nil
	case "done":
		text := fmt.Sprintf("%s  %s: %d rows, %d bytes, %v", at, cli.Safe(r.Tag), r.Rows, r.Bytes, time.Duration(r.Took)*time.Microsecond)
		if r.SQLState != "" {
			text = fmt.Sprintf("%s  %s %s", at, cli.Safe(r.SQLState), cli.Safe(r.Message))
		}
		return text, nil
	case "request":
		return at + cli.Safe(r.Method+" "+r.Path), nil
	case "request-done":
		text := fmt.Sprintf("%s  %d: %d bytes up, %d bytes down, %v", at, r.Status, r.Sent, r.Bytes, time.Duration(r.Took)*time.Microsecond)
		if r.Call != "" {
			text += ", gRPC " + cli.Safe(r.Call)
		}
		if r.Cut {
			text += ", not the whole answer"
		}
		return text, nil
	case "terminal":
		return at + r.drawn(), nil
	case "file":
		text := fmt.Sprintf("%sfile %s: %s, %d bytes", at, cli.Safe(r.Direction), cli.Safe(r.Name+string(r.NameBytes)), r.Size)
		if r.SHA256 != "" {
			text += ", SHA-256 " + cli.Safe(r.SHA256)
		}
		return text, nil
	case "piece":
		return fmt.Sprintf("%sfile number %d: %d bytes at %d", at, r.N, len(r.Data)+len(r.DataBytes), r.Offset), nil
	case "note":
		return at + "-- " + cli.Safe(r.Text), nil
	}
	return at + cli.Safe(string(raw)), nil
}

// channel is what a channel of SSH is for, before what it does.
func (r *recorded) channel() string {
	switch r.What {
	case "shell", "exec", "sftp", "forward", "back", "listen":
		return r.What + " "
	}
	return ""
}

// sequences are what moves a cursor and colours text (ECMA-48), which a list of lines
// leaves out; the recording's page plays them.
var sequences = regexp.MustCompile(`\x1b(\[[0-?]*[ -/]*[@-~]|[\]P_^X][^\x07\x1b]*(\x07|\x1b\\)?|[ -/]*[0-~])`)

// drawn is an event of a terminal, as text.
func (r *recorded) drawn() string {
	data := r.Data + string(r.DataBytes)
	switch r.Code {
	case "o":
		return "  | " + safeLines(strings.ReplaceAll(sequences.ReplaceAllString(data, ""), "\r", ""))
	case "i":
		return "  > " + safeLines(strings.ReplaceAll(data, "\r", ""))
	case "r":
		return "  the terminal is " + cli.Safe(data)
	case "x":
		return "  ended: " + cli.Safe(data)
	}
	return cli.Safe(data) + ":" // a marker: whose the following is
}

// safeLines keeps line breaks of a statement, and nothing else that moves a cursor.
func safeLines(text string) string {
	parts := strings.Split(strings.TrimSpace(text), "\n")
	for i, part := range parts {
		parts[i] = cli.Safe(strings.ReplaceAll(part, "\t", "    "))
	}
	return strings.Join(parts, "\n              ")
}

func newRecordingsVerify() *cobra.Command {
	var where recordFlags
	c := &cobra.Command{
		Use: "verify SESSION", Short: "Prove that one recording is whole and untouched", Args: cobra.ExactArgs(1),
		Long: `Checks the log, and that the recording's chunks are exactly those that it names. It
needs no running gate.

Exit codes: 0 verified; 1 tampered (says what and where); 2 could not check.`,
		Example: "  sallyport recordings verify 7Q2KMX --config /etc/sallyport/proxy.hcl",
	}
	where.add(c)
	asJSON := cli.JSONFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		dir, recordings, err := where.folders(c)
		if err != nil {
			return err
		}
		if recordings == "" {
			return cli.Usage(c, fmt.Errorf("say where the recordings are: --config FILE, or --dir with --recordings"))
		}
		return verify(c, dir, audit.VerifyOptions{Recordings: recordings, Session: args[0]}, *asJSON)
	}
	return c
}
