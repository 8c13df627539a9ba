// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/server/tlsconf"
	"github.com/tsugi-project/tsugi/internal/servercli/config"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// statusResult is what can be said of a server from its machine.
type statusResult struct {
	Dir       string         `json:"dir"`
	URL       string         `json:"url"`
	Answers   bool           `json:"answers"`
	Why       string         `json:"why_not,omitempty"`
	Database  string         `json:"database"`
	Schema    int64          `json:"schema"`
	Storage   string         `json:"storage"`
	Machines  int            `json:"machines"`
	Limit     int            `json:"machine_limit,omitempty"` // 0: none
	Jobs      map[string]int `json:"jobs"`
	TLS       string         `json:"tls"`
	CertUntil string         `json:"certificate_until,omitempty"`
	Roles     []roleResult   `json:"roles"`
	RootKeys  string         `json:"root_keys_here,omitempty"`
	Free      int64          `json:"disk_free"`
}

type roleResult struct {
	Name    string `json:"name"`
	Version int64  `json:"version"`
	Expires string `json:"expires"`
}

func newStatusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Tell how the server stands, also when it does not run",
		Long: `status looks at the server's directory, its database and its storage, and asks
the server itself whether it answers. It changes nothing, but for the schema of
a database that an older release made.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd) },
	}
}

func (a *app) status(cmd *cobra.Command) error {
	c, err := a.load(cmd)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	s, err := openService(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	r, err := s.status(ctx)
	if err := errors.Join(err, s.close()); err != nil {
		return err
	}
	if why := answers(ctx, c); why != nil {
		r.Why = why.Error()
	} else {
		r.Answers = true
	}
	return a.Show("status", r, func() string { return statusText(r) })
}

func (s *service) status(ctx context.Context) (statusResult, error) {
	c := s.config
	r := statusResult{
		Dir: c.Dir(), URL: c.URL, Database: s.store.Engine(), Storage: c.Storage.Kind, TLS: c.TLS.Mode, Jobs: map[string]int{},
	}
	var err error
	if r.Schema, err = s.store.Schema(ctx); err != nil {
		return r, err
	}
	counts, err := s.store.CountMachines(ctx)
	if err != nil {
		return r, err
	}
	r.Machines = counts.Live
	if r.Limit, _, err = s.store.PlanMachines(ctx); err != nil {
		return r, err
	}
	jobs, err := s.store.CountJobs(ctx)
	if err != nil {
		return r, err
	}
	for state, n := range jobs {
		r.Jobs[string(state)] = n
	}
	roles, err := s.publish.Status(ctx)
	if err != nil {
		return r, err
	}
	for _, role := range roles {
		r.Roles = append(r.Roles, roleResult{role.Name, role.Version, role.Expires.UTC().Format(time.RFC3339)})
	}
	if c.TLS.Mode == "own" {
		if leaf, err := tlsconf.ReadOwn(c.Path(c.TLS.Dir)); err == nil {
			r.CertUntil = leaf.NotAfter.UTC().Format(time.RFC3339)
		}
	}
	if exists(c.Dir(), "offline", "root-1.pem") {
		r.RootKeys = c.Path("offline")
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(c.Dir(), &fs); err == nil {
		r.Free = int64(fs.Bavail) * fs.Bsize
	}
	return r, nil
}

// answers asks the server on this machine whether it is ready. The name in
// the URL may lead elsewhere, so the connection goes to the listen address.
func answers(ctx context.Context, c *config.Config) error {
	var ca []byte
	if c.TLS.Mode == "own" {
		own, err := tlsconf.OpenCA(c.Path(c.TLS.Dir))
		if err != nil {
			return err
		}
		ca = own.PEM()
	}
	httpc, err := client.NewHTTP(client.HTTPOptions{CA: ca})
	if err != nil {
		return err
	}
	if t, ok := httpc.Transport.(*http.Transport); ok {
		_, port, err := net.SplitHostPort(c.Address())
		if err != nil {
			return err
		}
		host, _, _ := net.SplitHostPort(c.Address())
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "localhost"
		}
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, network, net.JoinHostPort(host, port))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := httpc.Do(req)
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err // without the URL, which is told anyway
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("it is not ready: %s", res.Status)
	}
	return nil
}

func statusText(r statusResult) string {
	state := ui.Good("answers") + " at " + r.URL
	if !r.Answers {
		state = ui.Bad("does not answer") + " at " + r.URL + ": " + r.Why
	}
	limit := "no limit"
	if r.Limit > 0 {
		limit = fmt.Sprintf("of %d", r.Limit)
	}
	rows := [][2]string{
		{"server", state},
		{"directory", r.Dir + ", " + ui.Size(r.Free) + " free"},
		{"database", fmt.Sprintf("%s, schema %d", r.Database, r.Schema)},
		{"storage", r.Storage},
		{"machines", fmt.Sprintf("%d, %s", r.Machines, limit)},
		{"jobs", jobsText(r.Jobs)},
		{"tls", strings.TrimSpace(r.TLS + " " + until(r.CertUntil))},
	}
	for _, role := range r.Roles {
		rows = append(rows, [2]string{"tuf " + role.Name, fmt.Sprintf("version %d, until %s", role.Version, role.Expires)})
	}
	text := ui.Pairs(rows...)
	if r.RootKeys != "" {
		text += "\n" + ui.Warn("The root keys are still in "+r.RootKeys+": carry them away.") + "\n"
	}
	return text
}

func until(t string) string {
	if t == "" {
		return ""
	}
	return "until " + t
}

func jobsText(n map[string]int) string {
	var words []string
	for _, state := range []store.JobState{store.JobQueued, store.JobRunning, store.JobDone, store.JobFailed, store.JobCancelled} {
		if n[string(state)] > 0 {
			words = append(words, fmt.Sprintf("%d %s", n[string(state)], state))
		}
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}
