// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// Apt asks one configuration of apt; the zero value is the machine's own.
type Apt struct {
	Config string // file that APT_CONFIG names
}

// Command is a run of one of apt's programs with that configuration.
func (a Apt) Command(name string, args ...string) Command {
	c := Command{Name: name, Args: args}
	if a.Config != "" {
		c.Env = []string{"APT_CONFIG=" + a.Config}
	}
	return c
}

// Deb is one version of a binary package as apt knows it.
type Deb struct {
	Name, Version, Arch string
	SourceName          string // source package that the code comes from
	SourceVersion       string
	Depends             string // as the package says it
	Size                int64
	SHA256              string
	File                string // its name on disk, as apt-get download chooses it
}

// Show lists the versions of packages ("NAME", or "NAME=VERSION" for one
// version) that the configured sources have, newest first as apt sorts them.
// A package that apt does not know is an empty list.
func (a Apt) Show(ctx context.Context, names ...string) ([]Deb, error) {
	out, err := a.Command("apt-cache", append([]string{"show", "--"}, names...)...).Run(ctx)
	if err != nil {
		if exit, ok := errors.AsType[*ExitError](err); ok && bytes.Contains(exit.Output, []byte("No packages found")) {
			return nil, nil
		}
		if code.Of(err) != "" {
			return nil, err
		}
		return nil, code.New("TS2305", strings.Join(names, " "), AptMessage(err)).With(err)
	}
	return parseStanzas(out)
}

// parseStanzas reads the deb822 text of apt-cache show.
func parseStanzas(b []byte) ([]Deb, error) {
	var pkgs []Deb
	fields := make(map[string]string)
	flush := func() error {
		defer clear(fields)
		// A stanza without a file is of an installed package that the sources no longer have.
		if len(fields) == 0 || fields["Filename"] == "" {
			return nil
		}
		p := Deb{
			Name: fields["Package"], Version: fields["Version"], Arch: fields["Architecture"],
			SHA256: strings.ToLower(fields["SHA256"]), Depends: fields["Depends"],
		}
		var err error
		if p.Size, err = strconv.ParseInt(fields["Size"], 10, 64); err != nil || p.Size <= 0 {
			return fmt.Errorf("package %s: size %q", p.Name, fields["Size"])
		}
		if b, err := hex.DecodeString(p.SHA256); err != nil || len(b) != sha256.Size {
			return fmt.Errorf("package %s: SHA256 %q", p.Name, fields["SHA256"])
		}
		if p.Name == "" || p.Version == "" || p.Arch == "" {
			return fmt.Errorf("package %q: version %q, architecture %q", p.Name, p.Version, p.Arch)
		}
		p.SourceName, p.SourceVersion = sourceOf(p, fields["Source"], fields["Built-Using"])
		p.File = debFileName(p)
		pkgs = append(pkgs, p)
		return nil
	}
	err := eachLine(bytes.NewReader(b), func(n int, line string) error {
		if line == "" {
			return flush()
		}
		if line[0] == ' ' || line[0] == '\t' { // a continuation: no field needed here has any
			return nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("line %d: %.60q", n, line)
		}
		fields[name] = strings.TrimSpace(value)
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return nil, fmt.Errorf("apt-cache: %w", err)
	}
	return pkgs, nil
}

var packageRelation = regexp.MustCompile(`^\s*(\S+) \(=? ?([^)\s]+)\)`)

// sourceOf finds the source that a package's code was compiled from. Signed
// images are repacked by a source package of their own and name the real one
// in Built-Using (debian-policy 7.8).
func sourceOf(p Deb, source, builtUsing string) (name, version string) {
	for rel := range strings.SplitSeq(builtUsing, ",") {
		if m := packageRelation.FindStringSubmatch(rel); m != nil && strings.HasPrefix(m[1], "linux") {
			return m[1], m[2]
		}
	}
	if m := packageRelation.FindStringSubmatch(source); m != nil {
		return m[1], m[2]
	}
	return cmpOr(source, p.Name), p.Version
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// debFileName is the name under which apt-get download saves a package:
// apt-pkg/acquire-item.cc quotes "_:" in the version.
func debFileName(p Deb) string {
	v := strings.NewReplacer("_", "%5f", ":", "%3a").Replace(p.Version)
	return p.Name + "_" + v + "_" + p.Arch + ".deb"
}

// choose finds one version of a package: the given one, or the first.
func choose(pkgs []Deb, name, version string) (Deb, error) {
	var have []string
	for _, p := range pkgs {
		if p.Name != name {
			continue
		}
		if version == "" || p.Version == version {
			return p, nil
		}
		have = append(have, p.Version)
	}
	return Deb{}, code.New("TS2304", name+" = "+version, "there is "+strings.Join(have, ", "))
}

// Fetch makes sure that the packages are in dir, complete and with the
// announced digest, and returns their paths by name. What is there already is
// not fetched again.
func (a Apt) Fetch(ctx context.Context, dir string, pkgs []Deb, rep progress.Reporter) (map[string]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, DiskError(dir, err)
	}
	paths := make(map[string]string, len(pkgs))
	missing := make([]Deb, len(pkgs))
	g, gctx := errgroup.WithContext(ctx)
	for i, p := range pkgs {
		paths[p.Name] = filepath.Join(dir, p.File)
		g.Go(func() error {
			ok, err := intact(gctx, filepath.Join(dir, p.File), p)
			if !ok {
				missing[i] = p
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	missing = slices.DeleteFunc(missing, func(p Deb) bool { return p.Name == "" })
	for some := range slices.Chunk(missing, mostAtOnce) {
		if err := a.fetch(ctx, dir, some, rep); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// mostAtOnce is how many packages one run of apt-get downloads: what an
// interrupted one had is lost.
const mostAtOnce = 40

// fetch downloads packages by apt-get, which checks the archive's signatures,
// into a directory of its own and moves them in place when whole.
func (a Apt) fetch(ctx context.Context, dir string, pkgs []Deb, rep progress.Reporter) (err error) {
	var size int64
	what := pkgs[0].File
	if n := len(pkgs) - 1; n > 0 {
		what += fmt.Sprintf(" and %d more", n)
	}
	args := []string{"-q", "-o", "APT::Status-Fd=3", "-o", "APT::Sandbox::User=root", "download"}
	for _, p := range pkgs {
		size += p.Size
		args = append(args, p.Name+"="+p.Version)
	}
	task := rep.Start("download", size, progress.Bytes)
	task.Note(what)
	defer func() { task.Done(err) }()

	tmp, err := os.MkdirTemp(dir, ".fetch-*")
	if err != nil {
		return DiskError(dir, err)
	}
	defer os.RemoveAll(tmp)
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer r.Close()
		watchDownload(r, size, task)
		return nil
	})
	g.Go(func() error {
		defer w.Close()
		cmd := a.Command("apt-get", args...)
		cmd.Dir, cmd.Files = tmp, []*os.File{w}
		_, err := cmd.Run(gctx)
		if exit, ok := errors.AsType[*ExitError](err); ok {
			return code.New("TS2305", what, AptMessage(exit)).With(err)
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	for _, p := range pkgs {
		got := filepath.Join(tmp, p.File)
		ok, err := intact(ctx, got, p)
		if err != nil {
			return err
		}
		if !ok {
			return code.New("TS2306", p.File, "size or SHA256 differ")
		}
		if err := os.Rename(got, filepath.Join(dir, p.File)); err != nil {
			return fmt.Errorf("package %s: %w", p.File, err)
		}
	}
	return nil
}

// watchDownload reads apt's status lines, "dlstatus:N:PERCENT:text", to its end.
func watchDownload(r io.Reader, size int64, task progress.Task) {
	var done int64
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		f := strings.SplitN(sc.Text(), ":", 4)
		if len(f) < 3 || f[0] != "dlstatus" {
			continue
		}
		percent, err := strconv.ParseFloat(f[2], 64)
		if err != nil || percent < 0 || percent > 100 {
			continue
		}
		if now := int64(float64(size) * percent / 100); now > done {
			task.Add(now - done)
			done = now
		}
	}
	_, _ = io.Copy(io.Discard, r)
}

// intact tells whether a file is the announced package. The digest of a file
// is computed once and remembered beside it with the file's size and time.
func intact(ctx context.Context, path string, p Deb) (bool, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if st.Size() != p.Size {
		return false, nil
	}
	mark := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".sha256")
	line := fmt.Sprintf("%s %d %d\n", p.SHA256, st.Size(), st.ModTime().UnixNano())
	if b, err := os.ReadFile(mark); err == nil && string(b) == line {
		return true, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, readerCtx{ctx, f}); err != nil {
		return false, fmt.Errorf("package %s: %w", path, err)
	}
	if hex.EncodeToString(h.Sum(nil)) != p.SHA256 {
		return false, nil
	}
	if err := renameio.WriteFile(mark, []byte(line), 0o644); err != nil {
		return false, DiskError(mark, err)
	}
	return true, nil
}

// readerCtx ends a long copy when its context ends.
type readerCtx struct {
	ctx context.Context
	r   io.Reader
}

func (r readerCtx) Read(p []byte) (int, error) {
	if err := Interrupted(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// AptMessage picks apt's own error lines out of what it printed.
func AptMessage(err error) string {
	exit, ok := errors.AsType[*ExitError](err)
	if !ok {
		return ""
	}
	var lines []string
	for l := range strings.Lines(string(exit.Output)) {
		if l = strings.TrimSpace(l); strings.HasPrefix(l, "E: ") || strings.HasPrefix(l, "Err:") {
			lines = append(lines, strings.TrimPrefix(l, "E: "))
		}
	}
	return strings.Join(lines, "; ")
}

// aptNames lists the package names that match a pattern of apt-cache search.
func aptNames(ctx context.Context, pattern string) ([]string, error) {
	out, err := Command{Name: "apt-cache", Args: []string{"search", "--names-only", "--", pattern}}.Run(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for l := range strings.Lines(string(out)) {
		if name, _, ok := strings.Cut(l, " "); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
