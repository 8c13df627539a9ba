// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/server/tlsconf"
	"github.com/tsugi-project/tsugi/internal/servercli/config"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// initOptions are the flags of init.
type initOptions struct {
	names          []string
	passphraseFile string
	noPassphrase   bool
	roots          int
	threshold      int
	tier           string
	group          string
	admin          string
}

// initResult is what init made, with the three secrets that are told once.
type initResult struct {
	Dir      string   `json:"dir"`
	URL      string   `json:"url"`
	Operator string   `json:"operator_token"`
	Enroll   string   `json:"enroll"`
	Tier     string   `json:"enroll_tier"`
	CA       string   `json:"ca_sha256,omitempty"`
	Root     string   `json:"root_sha256"`
	RootKeys []string `json:"root_keys"`
	Unlocked bool     `json:"root_keys_unlocked,omitempty"`
	Admin    string   `json:"admin"` // the first person
	Link     string   `json:"admin_link"`
	Until    int64    `json:"admin_link_expires"`
}

// forServe are flags that override the configuration for a run of the server,
// and their keys. init names the key to whom it is given one.
var forServe = map[string]string{
	"tls-mode": "tls.mode", "log-level": "log.level", "log-format": "log.format", "workers-count": "workers.count", "workers-home": "workers.home",
}

// enrollLife is how long the token that init makes is good for.
const enrollLife = 7 * 24 * time.Hour

func newInitCommand(a *app) *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a new server: configuration, keys, certificates, database",
		Long: `init makes the directory of a new server: server.yaml, the authority of its
certificates, the keys that sign what machines load, and the database. It
changes nothing that is there.

It prints, once, the token of the first operator, for tsugictl; the word that
the first machines enroll with; and the link with which the first admin comes
into the console. The root keys are written to offline/, locked with a
passphrase: carry that directory away, to two places that are not this
machine. They are needed to change other keys, not from day to day.

Run by root in a directory of another user, such as the package's
/var/lib/tsugi-server, it gives that user what it makes.

For PostgreSQL, S3 or certificates of your own give --config with a file that
says so; it becomes the server's server.yaml.`,
		Example: `  tsugi-server init --url https://patches.example.org:8443
  tsugi-server init --url https://10.0.0.5:8443 --name patches.lan --roots 3 --threshold 2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.init(cmd, o) },
	}
	settings(cmd)
	f := cmd.Flags()
	for name := range forServe {
		_ = f.MarkHidden(name) // given all the same, the error names their keys
	}
	f.StringArrayVar(&o.names, "name", nil, "further name or address in the server's certificate (may be repeated)")
	f.StringVar(&o.passphraseFile, "root-passphrase-file", "", "file with the passphrase of the root keys (default: it is asked for)")
	f.BoolVar(&o.noPassphrase, "no-root-passphrase", false, "leave the root keys unlocked, for a trial")
	f.IntVar(&o.roots, "roots", 1, "root keys to make, one for each person that holds one")
	f.IntVar(&o.threshold, "threshold", 0, "root keys that must sign a new root (default more than half)")
	f.StringVar(&o.tier, "tier", "", "tier of the first machines (default the last one, stable)")
	f.StringVar(&o.group, "group", "", "group of the first machines")
	f.StringVar(&o.admin, "admin", "owner", "name that the first admin signs in with")
	return cmd
}

func (a *app) init(cmd *cobra.Command, o initOptions) error {
	ctx := cmd.Context()
	if o.roots < 1 || o.roots > 20 || o.threshold < 0 || o.threshold > o.roots {
		return command.Usage(program+" init", "--roots must be 1 to 20 and --threshold no more than that")
	}
	dir, err := filepath.Abs(a.dir)
	if err != nil {
		return err
	}
	if err := vacant(dir); err != nil {
		return err
	}
	text, c, err := a.firstConfig(cmd, dir, o)
	if err != nil {
		return err
	}
	passphrase, err := a.rootPassphrase(ctx, o)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return diskProblem(dir, err)
	}
	r := initResult{Dir: dir, URL: c.URL, Unlocked: len(passphrase) == 0}
	if err := a.make(ctx, c, o, passphrase, &r); err != nil {
		// Nothing of it is of use without the rest.
		return errors.Join(diskProblem(dir, err), sweep(dir, c))
	}
	// The file that makes the directory a server's comes last.
	if err := renameio.WriteFile(filepath.Join(dir, config.FileName), text, 0o640); err != nil {
		return errors.Join(diskProblem(dir, err), sweep(dir, c))
	}
	if err := giveAway(dir); err != nil {
		return err
	}
	return a.Show("init", r, func() string { return initText(r) })
}

// made are the entries that init makes in a directory.
func made() []string {
	return []string{"keys", "offline", "ca", "blobs", "tsugi.db", "tsugi.db-wal", "tsugi.db-shm"}
}

// vacant refuses a directory that has any of what init makes.
func vacant(dir string) error {
	for _, name := range append(made(), config.FileName) {
		if exists(dir, name) {
			return code.New("TS7805", filepath.Join(dir, name), "")
		}
	}
	return nil
}

// sweep removes what a failed init made; the directory was vacant before.
func sweep(dir string, c *config.Config) error {
	var all error
	for _, name := range made() {
		if name == "blobs" && c.Path(c.Storage.Folder) != filepath.Join(dir, name) {
			continue
		}
		all = errors.Join(all, os.RemoveAll(filepath.Join(dir, name)))
	}
	return all
}

// firstConfig is the text of the configuration to be, checked.
func (a *app) firstConfig(cmd *cobra.Command, dir string, o initOptions) ([]byte, *config.Config, error) {
	var text []byte
	if a.config != "" {
		var err error
		if text, err = a.ReadFile(a.config); err != nil {
			return nil, nil, err
		}
	}
	flags := map[string]string{}
	for _, name := range []string{"url", "listen", "database"} {
		if f := cmd.Flags().Lookup(name); f.Changed {
			flags[name] = f.Value.String()
		}
	}
	for name, key := range forServe {
		if cmd.Flags().Lookup(name).Changed {
			return nil, nil, command.Usage(program+" init", "--"+name+" is for serve; put "+key+" into a file and give it with --config")
		}
	}
	if a.config != "" && (len(flags) > 0 || len(o.names) > 0) {
		return nil, nil, command.Usage(program+" init", "with --config everything stands in that file: give neither --url nor --name, --listen, --database")
	}
	if a.config == "" {
		text = config.First(flags, o.names)
	}
	c, err := config.Parse(dir, config.FileName, text)
	return text, c, err
}

func (a *app) rootPassphrase(ctx context.Context, o initOptions) ([]byte, error) {
	switch {
	case o.noPassphrase && o.passphraseFile != "":
		return nil, command.Usage(program+" init", "--no-root-passphrase and --root-passphrase-file exclude each other")
	case o.noPassphrase:
		return nil, nil
	case o.passphraseFile != "":
		b, err := a.ReadFile(o.passphraseFile)
		if err != nil {
			return nil, err
		}
		if b = bytes.TrimRight(b, "\r\n"); len(b) < 8 {
			return nil, command.Usage(program+" init", "the passphrase in "+o.passphraseFile+" is shorter than 8 characters")
		}
		return b, nil
	}
	return a.askPassphrase(ctx, "the root keys")
}

// make makes everything but the configuration file.
func (a *app) make(ctx context.Context, c *config.Config, o initOptions, passphrase []byte, r *initResult) error {
	now := time.Now()
	if c.TLS.Mode == "own" {
		ca, err := tlsconf.CreateCA(c.Path(c.TLS.Dir), c.Host(), now)
		if err != nil {
			return err
		}
		r.CA = ca.Digest()
	}
	db, err := store.Open(ctx, c.DSN())
	if err != nil {
		return err
	}
	defer db.Close()
	// A database that is shared may be another server's already.
	if generation, err := db.TUFGeneration(ctx); err != nil {
		return err
	} else if generation != 0 {
		return code.New("TS7805", "database", "it belongs to a server already").WithFix("for a further replica, copy the directory of the first one without running init: see docs/server.md")
	}
	tiers, err := db.Tiers(ctx)
	if err != nil {
		return err
	}
	set := publish.KeySetOptions{
		Dir: c.Path(c.Keys.Dir), OfflineDir: filepath.Join(c.Dir(), "offline"), Passphrase: passphrase,
		Roots: o.roots, Threshold: o.threshold, Lifetimes: lifetimes(c), Now: now,
	}
	for _, t := range tiers {
		set.Tiers = append(set.Tiers, t.Name)
	}
	keys, err := publish.NewKeySet(set)
	if err != nil {
		return err
	}
	r.Root, r.RootKeys = keys.Digest, keys.Offline
	blobs, err := openBlobs(ctx, c)
	if err != nil {
		return err
	}
	service, err := publish.New(publish.Options{Store: db, Blobs: blobs, Keys: keys.Keys, Lifetimes: lifetimes(c), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if err := service.Init(ctx, keys.Root); err != nil {
		return err
	}
	if err := firstSecrets(ctx, db, o, r); err != nil {
		return err
	}
	persons, err := openPeople(c, db, keys.Keys.Identity)
	if err != nil {
		return err
	}
	first, err := persons.FirstAdmin(ctx, localActor(), o.admin)
	r.Admin, r.Link, r.Until = first.Name, first.Link, first.Expires
	return err
}

// firstSecrets makes the first operator and the first enrolment token.
func firstSecrets(ctx context.Context, db *store.Store, o initOptions, r *initResult) error {
	r.Operator = api.NewCredential(api.OperatorCredential)
	if _, err := db.CreateOperator(ctx, "admin", store.OperatorAdmin, api.HashCredential(r.Operator)); err != nil {
		return err
	}
	secret := api.NewCredential(api.TokenCredential)
	token, err := db.CreateToken(ctx, store.Token{
		Name: "first machines", Hash: api.HashCredential(secret), Tier: o.tier, Group: o.group,
		Expires: time.Now().Add(enrollLife).UnixMilli(),
	})
	if errors.Is(err, store.ErrNotFound) {
		return command.Usage(program+" init", "there is no tier "+o.tier)
	}
	if err != nil {
		return err
	}
	r.Tier = token.Tier
	r.Enroll = api.Enrollment{URL: r.URL, Token: secret, CA: r.CA, Root: r.Root}.String()
	return nil
}

func initText(r initResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s The server of %s is made in %s.\n\n", ui.Good("✓"), ui.Bold(r.URL), r.Dir)
	fmt.Fprintf(&b, "Start it:            tsugi-server serve --dir %s\n", r.Dir)
	fmt.Fprintf(&b, "Become its operator: tsugictl login %s%s\n", r.URL, pin(r.CA))
	fmt.Fprintf(&b, "                     and give it this token: %s\n", r.Operator)
	fmt.Fprintf(&b, "Enroll machines:     tsugi enroll %s\n", r.Enroll)
	fmt.Fprintf(&b, "                     (into tier %s; good for %d days)\n\n", r.Tier, int(enrollLife/(24*time.Hour)))
	b.WriteString("Carry the root keys away, to two places that are not this machine, and remove\nthem here; whoever has them can replace every other key:\n")
	for _, k := range r.RootKeys {
		b.WriteString("  " + k + "\n")
	}
	if r.Unlocked {
		b.WriteString("They are not locked with a passphrase: good for a trial and nothing else.\n")
	}
	fmt.Fprintf(&b, "\nWhen it runs, open this link in a browser, choose a password, and you are %s,\nits first admin (good once, until %s):\n  %s\n", ui.Bold(r.Admin), minute(r.Until), r.Link)
	b.WriteString("\nThe token, the word and the link are shown this once. tsugi-server user link " + r.Admin + "\nmakes another link.\n")
	return b.String()
}

func pin(ca string) string {
	if ca == "" {
		return ""
	}
	return " --ca-sha256 " + ca
}
