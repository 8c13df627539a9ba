// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newAuditCommand(a *app) *cobra.Command {
	return command.Parent("audit", "Check and export the audit log",
		`audit reads the log of every decision that people, machines and the server
made. Each entry has a number and a hash over itself and the entry before, so
whoever changes, removes or adds one must write all that follow anew. Whoever
noted the number and the hash of one entry finds that out.

These commands change nothing, and work while the server runs or stands.`,
		newAuditVerifyCommand(a), newAuditExportCommand(a))
}

// auditResult is what the check of an audit log says.
type auditResult struct {
	Entries int64       `json:"entries"` // that are as they were written
	Head    string      `json:"head"`    // of the last of them: NUMBER:HASH; "": none
	Noted   []string    `json:"noted,omitempty"`
	Outside int64       `json:"outside,omitempty"` // entries that an older program wrote beside this one
	Broken  *auditBreak `json:"broken,omitempty"`
}

type auditBreak struct {
	Entry int64  `json:"entry"`
	ID    string `json:"id,omitempty"`
	Why   string `json:"why"`
}

func newAuditVerifyCommand(a *app) *cobra.Command {
	var noted []string
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Check that nobody changed the audit log",
		Long: `verify reads the whole audit log of the server, or of a file that audit export
wrote, and checks that every entry is what was written, in its place. It prints
the head of the log, the number and the hash of the last entry: note it
somewhere that is not this server, and give it with --noted another time. A log
that was cut at its end, or written anew as a whole, holds together by itself;
only a note tells.`,
		Example: `  tsugi-server audit verify
  tsugi-server audit verify --noted 1204:5d41402abc4b2a76b9719d911017c592…
  tsugi-server audit verify audit-2026-11.jsonl`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			notes, err := parseNotes(cmd, noted)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return a.auditVerifyFile(args[0], notes)
			}
			return a.auditVerify(cmd, notes)
		},
	}
	cmd.Flags().StringArrayVar(&noted, "noted", nil, "NUMBER:HASH of an entry, noted before (may be repeated)")
	return cmd
}

// parseNotes reads hashes by the numbers of their entries.
func parseNotes(cmd *cobra.Command, words []string) (map[int64]string, error) {
	notes := map[int64]string{}
	for _, w := range words {
		number, hash, ok := strings.Cut(strings.TrimSpace(w), ":")
		seq, err := strconv.ParseInt(number, 10, 64)
		hash = strings.ToLower(hash)
		if raw, bad := hex.DecodeString(hash); !ok || err != nil || seq < 1 || bad != nil || len(raw) != 32 {
			return nil, command.Usage(cmd.CommandPath(), fmt.Sprintf("--noted %q is no NUMBER:HASH with 64 hexadecimal digits", w))
		}
		if other, twice := notes[seq]; twice && other != hash {
			return nil, command.Usage(cmd.CommandPath(), fmt.Sprintf("--noted gives two hashes for entry %d", seq))
		}
		notes[seq] = hash
	}
	return notes, nil
}

// openToCheck opens the database and gives no entry a place that has none: the
// check is of what is there.
func (a *app) openToCheck(cmd *cobra.Command, f func(context.Context, *store.Store) error) error {
	c, err := a.load(cmd)
	if err != nil {
		return err
	}
	db, err := store.Open(cmd.Context(), c.DSN(), store.ToCheck())
	if err != nil {
		return err
	}
	return errors.Join(f(cmd.Context(), db), db.Close())
}

func (a *app) auditVerify(cmd *cobra.Command, notes map[int64]string) error {
	return a.openToCheck(cmd, func(ctx context.Context, db *store.Store) error {
		n := noteCheck{notes: notes}
		c, err := db.CheckAudit(ctx, n.see)
		if err != nil {
			return err
		}
		return a.auditSaid("the audit log", c, &n)
	})
}

// noteCheck compares entries with what was noted of them.
type noteCheck struct {
	notes map[int64]string
	found map[int64]string // of the entries that were noted, as they are now
}

func (n *noteCheck) see(e store.AuditEntry) error {
	if _, ok := n.notes[e.Seq]; ok {
		if n.found == nil {
			n.found = map[int64]string{}
		}
		n.found[e.Seq] = e.Hash
	}
	return nil
}

// auditSaid prints what a check found. A log that does not hold is an error.
func (a *app) auditSaid(where string, c store.AuditCheck, n *noteCheck) error {
	r := auditResult{Entries: c.Seq, Outside: c.Outside}
	if c.Seq > 0 {
		r.Head = fmt.Sprintf("%d:%s", c.Seq, c.Hash)
	}
	if c.Broken != nil {
		r.Broken = &auditBreak{Entry: c.Broken.Seq, ID: c.Broken.ID, Why: c.Broken.Why}
	}
	var problem error
	if c.Broken != nil {
		problem = code.New("TS8220", where, c.Broken.Error())
	}
	for _, seq := range slices.Sorted(maps.Keys(n.notes)) {
		hash := n.notes[seq]
		now, ok := n.found[seq]
		switch {
		case problem != nil:
		case !ok:
			problem = code.New("TS8221", where, fmt.Sprintf("entry %d, which was noted, is not there: the last is %d", seq, c.Seq))
		case now != hash:
			problem = code.New("TS8221", where, fmt.Sprintf("entry %d has the hash %s, noted was %s", seq, now, hash))
		default:
			r.Noted = append(r.Noted, fmt.Sprintf("%d:%s", seq, hash))
		}
	}
	if problem != nil {
		if !a.Term.JSON() {
			a.Term.Print(auditText(where, r))
		}
		return problem
	}
	return a.Show("audit", r, func() string { return auditText(where, r) })
}

func auditText(where string, r auditResult) string {
	var b strings.Builder
	mark := ui.Good("✓")
	if r.Broken != nil {
		mark = ui.Bad("✗")
	}
	switch {
	case r.Entries == 0 && r.Broken == nil:
		fmt.Fprintf(&b, "%s %s has no entries.\n", mark, where)
	case r.Broken == nil:
		fmt.Fprintf(&b, "%s %s: all %d entries are what was written.\n", mark, where, r.Entries)
	default:
		fmt.Fprintf(&b, "%s %s: %d entries are what was written; from entry %d on it can't be trusted.\n", mark, where, r.Entries, r.Broken.Entry)
	}
	if r.Outside > 0 {
		fmt.Fprintf(&b, "%d entries have no place yet: a program of before wrote them. The server gives them one\nwhen it next starts; until then nothing shows whether they were changed.\n", r.Outside)
	}
	for _, n := range r.Noted {
		fmt.Fprintf(&b, "%s entry %s is as it was noted.\n", ui.Good("✓"), strings.Replace(n, ":", " ", 1))
	}
	if r.Head != "" {
		fmt.Fprintf(&b, "Its head, to note elsewhere: %s\n", r.Head)
	}
	return b.String()
}

func newAuditExportCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "export FILE",
		Short: "Write the audit log to a file",
		Long: `export writes all entries of the audit log in their order, one JSON object on a
line, with their numbers and hashes: audit verify FILE checks them anywhere,
without the server. The file appears whole or not at all; one that is there is
not replaced. "-" is standard output.

A log that does not hold together is exported as it is, and is an error.`,
		Example: "  tsugi-server audit export /archive/audit-$(date +%F).jsonl",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.auditExport(cmd, args[0]) },
	}
}

func (a *app) auditExport(cmd *cobra.Command, path string) error {
	if path == "-" {
		if a.Term.JSON() {
			return command.Usage(cmd.CommandPath(), "with --json the result goes to standard output: name a file")
		}
		return a.openToCheck(cmd, func(ctx context.Context, db *store.Store) error {
			c, err := exportAudit(ctx, db, a.Streams.Stdout)
			if err == nil && c.Broken != nil {
				err = code.New("TS8220", "the audit log", c.Broken.Error())
			}
			return err
		})
	}
	if err := command.CheckOutput(path); err != nil {
		return err
	}
	if exists(path) {
		return code.New("TS7816", path, "")
	}
	return a.openToCheck(cmd, func(ctx context.Context, db *store.Store) error {
		f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o600))
		if err != nil {
			return command.FileProblem("TS1903", path, err)
		}
		defer f.Cleanup() //nolint:errcheck // after it has its place there is nothing to do
		c, err := exportAudit(ctx, db, f)
		if err != nil {
			return diskProblem(path, err)
		}
		if err := f.CloseAtomicallyReplace(); err != nil {
			return diskProblem(path, err)
		}
		return a.auditSaid(path, c, &noteCheck{})
	})
}

func exportAudit(ctx context.Context, db *store.Store, w io.Writer) (store.AuditCheck, error) {
	b := bufio.NewWriterSize(w, 1<<16)
	c, err := db.CheckAudit(ctx, func(e store.AuditEntry) error {
		line, err := api.AuditLine(api.AuditEntry{Seq: e.Seq, ID: e.ID, Time: e.Time, Actor: e.Actor, Action: e.Action, Object: e.Object, Detail: e.Detail, Hash: e.Hash})
		if err == nil {
			_, err = b.Write(line)
		}
		return err
	})
	return c, errors.Join(err, b.Flush())
}

func (a *app) auditVerifyFile(path string, notes map[int64]string) error {
	in := a.Streams.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return command.FileProblem("TS1902", path, err)
		}
		defer f.Close()
		in = f
	}
	n := noteCheck{notes: notes}
	c, err := checkExport(in, n.see)
	if err != nil {
		return command.FileProblem("TS1902", path, err)
	}
	return a.auditSaid(path, c, &n)
}

// maxAuditLine bounds an entry of an export. The largest hold the words of one
// decision.
const maxAuditLine = 4 << 20

// checkExport checks an export. What is no entry is a break, as is one that
// does not hold; an error is that the file can't be read.
func checkExport(r io.Reader, see func(store.AuditEntry) error) (store.AuditCheck, error) {
	var c store.AuditCheck
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 1<<16), maxAuditLine)
	for lines.Scan() {
		e, err := parseAuditLine(lines.Bytes())
		if err != nil {
			c.Broken = &store.ChainError{Seq: c.Seq + 1, Why: err.Error()}
			return c, nil
		}
		if err := see(e); err != nil {
			return c, err
		}
		if broken, ok := errors.AsType[*store.ChainError](c.Add(e)); ok {
			c.Broken = broken
			return c, nil
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		c.Broken = &store.ChainError{Seq: c.Seq + 1, Why: fmt.Sprintf("its line is longer than %d bytes", maxAuditLine)}
		return c, nil
	}
	return c, lines.Err()
}

// parseAuditLine reads a line as exportAudit writes it, and nothing else: what
// two programs could read differently is refused.
func parseAuditLine(line []byte) (store.AuditEntry, error) {
	var l api.AuditEntry
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return store.AuditEntry{}, fmt.Errorf("its line is no entry: %w", err)
	}
	if again, err := api.AuditLine(l); err != nil || !bytes.Equal(bytes.TrimSuffix(again, []byte("\n")), line) {
		return store.AuditEntry{}, errors.New("its line is not as it was exported")
	}
	return store.AuditEntry{ID: l.ID, Time: l.Time, Actor: l.Actor, Action: l.Action, Object: l.Object, Detail: l.Detail, Seq: l.Seq, Hash: l.Hash}, nil
}
