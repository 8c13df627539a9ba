// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/servercli/archive"
	"github.com/tsugi-project/tsugi/internal/servercli/config"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// settingRestored is set by restore and cleared by the first serve after it.
const settingRestored = "server.restored"

// restoreResult is what came out of a backup.
type restoreResult struct {
	Dir     string `json:"dir"`
	URL     string `json:"url"`
	Created string `json:"created"`
	Files   int    `json:"files"`
	Keys    bool   `json:"keys"`
	KeysDir string `json:"keys_dir"`
}

func newRestoreCommand(a *app) *cobra.Command {
	var keys string
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a server again from a backup",
		Long: `restore makes the directory, the database and the files of a server from a
backup. All three have to be empty: nothing is ever overwritten. The whole
backup is checked before anything is written.

With --config another configuration takes the place of the one in the backup:
so a server moves from SQLite to PostgreSQL, or from a folder to S3.

If the keys are not in the backup, put copies of keys/ and ca/ into a directory
and name it with --keys, or put them in place before the server starts.

What happened after the backup is lost, with two exceptions. Machines keep what
they have, and the server lifts the numbers of all that it signs above what
machines can have seen, so that they follow it again. Machines that enrolled
after the backup have to enroll again.`,
		Example: "  tsugi-server restore /backup/tsugi-2026-11-22.tar.zst --dir /srv/tsugi --keys /media/keys",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.restore(cmd.Context(), args[0], keys) },
	}
	cmd.Flags().StringVar(&keys, "keys", "", "directory with keys/ and ca/, when they are not in the backup")
	return cmd
}

func (a *app) restore(ctx context.Context, file, keys string) error {
	dir, err := filepath.Abs(a.dir)
	if err != nil {
		return err
	}
	if err := vacant(dir); err != nil {
		p := err.(*code.Problem) //nolint:errorlint,forcetypeassert // vacant returns nothing else
		return code.New("TS7809", p.Where, "")
	}
	in, err := os.Open(file)
	if err != nil {
		return command.FileProblem("TS1902", file, err)
	}
	defer in.Close()
	// The first pass finds out that it is whole, and what it is.
	text, info, err := inspect(in)
	if err != nil {
		return err
	}
	if a.config != "" {
		if text, err = a.ReadFile(a.config); err != nil {
			return err
		}
	}
	c, err := config.Parse(dir, config.FileName, text)
	if err != nil {
		return err
	}
	if keys != "" && !exists(keys, "keys") {
		return command.Usage(program+" restore", keys+" holds no directory keys")
	}
	r := restoreResult{
		Dir: dir, URL: c.URL, Created: time.UnixMilli(info.Created).UTC().Format(time.RFC3339), Keys: info.Keys || keys != "",
		KeysDir: c.Path(c.Keys.Dir),
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return diskProblem(dir, err)
	}
	if err := a.unpack(ctx, c, in, &r); err != nil {
		return errors.Join(diskProblem(dir, err), sweep(dir, c))
	}
	if err := copyKeys(c, keys); err != nil {
		return errors.Join(diskProblem(dir, err), sweep(dir, c))
	}
	if err := renameio.WriteFile(filepath.Join(dir, config.FileName), text, 0o640); err != nil {
		return errors.Join(diskProblem(dir, err), sweep(dir, c))
	}
	if err := giveAway(dir); err != nil {
		return err
	}
	return a.Show("restore", r, func() string { return restoreText(r) })
}

// inspect reads a backup to its end and returns its configuration.
func inspect(in *os.File) (text []byte, info archive.Info, err error) {
	info, err = archive.Read(in, func(name string, size int64, r io.Reader) error {
		if name != archive.Config {
			return nil
		}
		if size > archive.MaxSmall {
			return code.New("TS7808", "", name+" is too long")
		}
		text, err = io.ReadAll(r)
		return err
	})
	if err != nil {
		return nil, info, err
	}
	_, err = in.Seek(0, io.SeekStart)
	return text, info, err
}

// unpack writes database, files and keys.
func (a *app) unpack(ctx context.Context, c *config.Config, in io.Reader, r *restoreResult) error {
	blobs, err := openBlobs(ctx, c)
	if err != nil {
		return err
	}
	for info, err := range blobs.List(ctx, "") {
		if err != nil {
			return err
		}
		return code.New("TS7809", "storage", "it holds "+info.Name)
	}
	_, err = archive.Read(in, func(name string, size int64, body io.Reader) error {
		switch {
		case name == archive.Database:
			return store.Restore(ctx, c.DSN(), body)
		case strings.HasPrefix(name, archive.Blobs):
			r.Files++
			return blobs.Put(ctx, strings.TrimPrefix(name, archive.Blobs), body, size)
		case strings.HasPrefix(name, archive.Keys):
			return writeKey(c.Path(c.Keys.Dir), strings.TrimPrefix(name, archive.Keys), size, body)
		case strings.HasPrefix(name, archive.CA):
			return writeKey(c.Path(c.TLS.Dir), strings.TrimPrefix(name, archive.CA), size, body)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return a.withStoreOf(ctx, c, func(ctx context.Context, db *store.Store) error {
		return db.SetSetting(ctx, settingRestored, time.Now().UTC().Format(time.RFC3339))
	})
}

// writeKey writes one file of a directory of keys.
func writeKey(dir, name string, size int64, r io.Reader) error {
	if size > archive.MaxSmall || strings.Contains(name, "/") || strings.HasPrefix(name, ".") {
		return code.New("TS7808", "", fmt.Sprintf("%.200q is no file of keys", name))
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, name), b, 0o600)
}

// copyKeys puts the copies of --keys in place.
func copyKeys(c *config.Config, from string) error {
	if from == "" {
		return nil
	}
	for name, to := range map[string]string{"keys": c.Path(c.Keys.Dir), "ca": c.Path(c.TLS.Dir)} {
		entries, err := os.ReadDir(filepath.Join(from, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || exists(to, e.Name()) {
				continue
			}
			f, err := os.Open(filepath.Join(from, name, e.Name()))
			if err != nil {
				return err
			}
			info, err := f.Stat()
			if err == nil {
				err = writeKey(to, e.Name(), info.Size(), f)
			}
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
		}
	}
	return nil
}

// afterRestore lifts the numbers of what is signed once, when a restored
// server first runs.
func (s *service) afterRestore(ctx context.Context) error {
	when, err := s.store.Setting(ctx, settingRestored)
	if errors.Is(err, store.ErrNotFound) || err == nil && when == "" {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.publish.Advance(ctx, "server"); err != nil {
		return err
	}
	s.log.Info("restored from a backup: what is signed is above all that machines have seen", "restored", when)
	return s.store.SetSetting(ctx, settingRestored, "")
}

func restoreText(r restoreResult) string {
	text := fmt.Sprintf("%s The server of %s as of %s is in %s.\n\nStart it: tsugi-server serve --dir %s\n", ui.Good("✓"), ui.Bold(r.URL), r.Created, r.Dir, r.Dir)
	if !r.Keys {
		text += ui.Warn("The keys were not in the backup: put them into "+r.KeysDir+", and the authority beside them into ca, first.") + "\n"
	}
	return text
}
