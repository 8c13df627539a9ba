// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
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
	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// backupResult is what a backup holds.
type backupResult struct {
	File     string `json:"file"`
	Size     int64  `json:"size"`
	Files    int    `json:"files"` // blobs
	Database string `json:"database"`
	Keys     bool   `json:"keys"`
}

func newBackupCommand(a *app) *cobra.Command {
	var keys bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write everything of a server into one file, while it runs",
		Long: `backup writes the configuration, the database and all files into one archive.
The server may run meanwhile: the database is taken as of one moment, and with
it whatever it names.

The keys are not in it unless --with-keys is given. Without the keys nobody can
publish in your name with a stolen backup, and you can't run a server from it
without them either: keep a copy of keys/ and ca/ somewhere safe; they seldom
change. With them the file is as secret as the server itself. Passwords that
stand in server.yaml are in it either way. The root keys are never in it.

The object cache is left out: it fills itself again.`,
		Example: "  tsugi-server backup /backup/tsugi-$(date +%F).tar.zst",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.backup(cmd, args[0], keys) },
	}
	cmd.Flags().BoolVar(&keys, "with-keys", false, "put the online keys and the certificate authority into the file as well")
	return cmd
}

func (a *app) backup(cmd *cobra.Command, file string, keys bool) error {
	c, err := a.load(cmd)
	if err != nil {
		return err
	}
	if err := command.CheckOutput(file); err != nil {
		return err
	}
	if exists(file) {
		return code.New("TS7816", file, "")
	}
	s, err := openService(cmd.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	r := backupResult{File: file, Database: s.store.Engine(), Keys: keys}
	if err := errors.Join(s.backup(cmd.Context(), &r), s.close()); err != nil {
		return diskProblem(file, err)
	}
	return a.Show("backup", r, func() string { return backupText(r) })
}

// backup writes the file whole or not at all.
func (s *service) backup(ctx context.Context, r *backupResult) error {
	out, err := renameio.NewPendingFile(r.File, renameio.WithPermissions(0o600), renameio.IgnoreUmask())
	if err != nil {
		return err
	}
	defer out.Cleanup() //nolint:errcheck // after it has its place there is nothing to do
	w, err := archive.NewWriter(out, archive.Info{
		Program: command.Maker(), Created: time.Now().UnixMilli(), URL: s.config.URL, Engine: s.store.Engine(),
		Storage: s.config.Storage.Kind, Keys: r.Keys,
	})
	if err != nil {
		return err
	}
	if err := s.backupConfig(w); err != nil {
		return err
	}
	// The database first: what it names was written before it was named, so all
	// of that is there when the files are read.
	if err := s.backupDatabase(ctx, w, filepath.Dir(r.File)); err != nil {
		return err
	}
	if r.Files, err = s.backupBlobs(ctx, w); err != nil {
		return err
	}
	if r.Keys {
		if err := addDir(w, archive.Keys, s.config.Path(s.config.Keys.Dir)); err != nil {
			return err
		}
		if s.config.TLS.Mode == "own" {
			if err := addDir(w, archive.CA, s.config.Path(s.config.TLS.Dir)); err != nil {
				return err
			}
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	info, err := out.Stat()
	if err != nil {
		return err
	}
	r.Size = info.Size()
	return out.CloseAtomicallyReplace()
}

func (s *service) backupConfig(w *archive.Writer) error {
	text, err := os.ReadFile(filepath.Join(s.config.Dir(), config.FileName))
	if err != nil {
		return err
	}
	return w.AddBytes(archive.Config, text)
}

// backupDatabase dumps to a file first: an archive needs to know how long its
// members are.
func (s *service) backupDatabase(ctx context.Context, w *archive.Writer, dir string) error {
	tmp, err := os.CreateTemp(dir, ".tsugi-backup-*")
	if err != nil {
		return err
	}
	defer func() { _ = tmp.Close(); _ = os.Remove(tmp.Name()) }()
	if err := s.store.Dump(ctx, tmp); err != nil {
		return err
	}
	size, err := tmp.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return w.Add(archive.Database, size, tmp)
}

// notBackedUp are the blobs that can be made again.
const notBackedUp = "cache/"

func (s *service) backupBlobs(ctx context.Context, w *archive.Writer) (n int, err error) {
	for info, err := range s.blobs.List(ctx, "") {
		if err != nil {
			return n, err
		}
		if strings.HasPrefix(info.Name, notBackedUp) {
			continue
		}
		r, info, err := s.blobs.Open(ctx, info.Name)
		if errors.Is(err, blob.ErrNotFound) {
			continue // deleted since: nothing names it
		}
		if err != nil {
			return n, err
		}
		err = w.Add(archive.Blobs+info.Name, info.Size, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// addDir adds the files of a directory of keys.
func addDir(w *archive.Writer, prefix, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := w.AddBytes(prefix+e.Name(), b); err != nil {
			return err
		}
	}
	return nil
}

func backupText(r backupResult) string {
	text := fmt.Sprintf("%s %s  %s, %s and the database\n", ui.Good("✓"), ui.Bold(r.File), ui.Size(r.Size), ui.Count(r.Files, "file"))
	if r.Keys {
		return text + ui.Warn("The keys are in it: whoever has this file can publish in your name.") + "\n"
	}
	return text + "The keys are not in it: keep a copy of keys/ and ca/ somewhere safe, or give --with-keys.\n"
}
