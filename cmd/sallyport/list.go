package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cli"
)

// apiPath is the API's path of one thing, or of something about it.
func apiPath(kind string, parts ...string) string {
	path := "/api/v1/" + kind
	for _, part := range parts {
		path += "/" + url.PathEscape(part)
	}
	return path
}

// A listing is a verb that reads a list: one API path, one table.
type listing[T any] struct {
	path string   // of the API
	key  string   // of the list in its answer
	head []string // of the table
	row  func(T) []string
	none string // said instead of an empty table
}

// command makes the verb, with the filters that the API knows.
func (l listing[T]) command(short, example, states string) *cobra.Command {
	var flags clientFlags
	var state, target, role string
	var limit int
	c := &cobra.Command{Use: "list", Short: short, Example: example}
	flags.add(c)
	if states != "" {
		c.Flags().StringVar(&state, "state", "", "only those that are "+states)
		c.Flags().StringVar(&target, "target", "", "only those of one target")
		c.Flags().StringVar(&role, "role", "", "only those of one role")
		c.Flags().IntVar(&limit, "limit", 100, "at most so many, the newest")
	}
	asJSON := cli.JSONFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		gate, err := flags.signedIn()
		if err != nil {
			return err
		}
		query := url.Values{}
		for name, value := range map[string]string{"state": state, "target": target, "role": role} {
			if value != "" {
				query.Set(name, value)
			}
		}
		if limit > 0 {
			query.Set("limit", strconv.Itoa(limit))
		}
		var raw json.RawMessage
		if err := gate.get(c.Context(), l.path, query, &raw); err != nil {
			return err
		}
		if *asJSON {
			return cli.PrintJSON(c.OutOrStdout(), raw)
		}
		return l.print(c, raw)
	}
	return c
}

func (l listing[T]) print(c *cobra.Command, raw json.RawMessage) error {
	var lists map[string]json.RawMessage
	var items []T
	err := json.Unmarshal(raw, &lists)
	if err == nil {
		err = json.Unmarshal(lists[l.key], &items)
	}
	if err != nil {
		return fmt.Errorf("read the gate's answer: %w", err)
	}
	if len(items) == 0 {
		_, err := fmt.Fprintln(c.OutOrStdout(), l.none)
		return err
	}
	t := cli.NewTable(c.OutOrStdout(), l.head...)
	for _, item := range items {
		t.Row(l.row(item)...)
	}
	return t.Flush()
}

// An action is a verb that does something to one thing: one POST.
type action struct {
	kind, do string // of the API's path
	use      string
	short    string
	example  string
	done     string // said afterwards; %s is the argument
	body     func(c *cobra.Command) func() map[string]any
}

func (a action) command() *cobra.Command {
	var flags clientFlags
	c := &cobra.Command{Use: a.use, Short: a.short, Example: a.example, Args: cobra.ExactArgs(1), ValidArgsFunction: completeIDs(&flags, a.kind, stateFor[a.do])}
	flags.add(c)
	var body func() map[string]any
	if a.body != nil {
		body = a.body(c)
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		gate, err := flags.signedIn()
		if err != nil {
			return err
		}
		var send any
		if body != nil {
			send = body()
		}
		if err := gate.post(c.Context(), apiPath(a.kind, args[0], a.do), send, nil); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), a.done+"\n", cli.Safe(args[0]))
		return err
	}
	return c
}

// why is the flag that many actions have.
func why(c *cobra.Command) func() map[string]any {
	text := c.Flags().String("why", "", "a word to the person, kept on the record")
	return func() map[string]any { return map[string]any{"why": *text} }
}
