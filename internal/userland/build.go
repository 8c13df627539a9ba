// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// Where Debian's builders have the source: "the build path" that file names in
// the binaries are mapped from, and that stands in some of them.
const buildParent = "/build/reproducible-path"

// Files of a build's directory, builds/SRC_VER.
const (
	treeDir   = "tree"      // what buildParent is in the room
	recordDir = "records"   // one file per recorded command, until it is done
	buildLog  = "build.log" // what the build printed
	confMark  = "configured"
	buildMark = "built" // of which recipe and root; written last
)

// built is a finished build of a source package.
type built struct {
	dir      string // of the store
	inside   string // the source directory in the room
	env      []string
	compiler string
}

// tree is the source directory on the host.
func (b built) tree() string { return filepath.Join(b.dir, treeDir, path.Base(b.inside)) }

var upstreamPart = regexp.MustCompile(`^(?:[0-9]+:)?(.+?)(?:-[^-]*)?$`)

// sourceDirOf is where builders unpack a source: SRC-UPSTREAM.
func sourceDirOf(source, version string) string {
	return buildParent + "/" + source + "-" + upstreamPart.FindStringSubmatch(version)[1]
}

// build unpacks and builds a source package by its recipe. A build that was
// interrupted goes on: make has kept what was whole, and so are the records.
func (s *Store) build(ctx context.Context, rm room, dsc, source, version string, r recipe, jobs int, rep progress.Reporter) (_ built, err error) {
	b := built{dir: s.buildDir(source, version), inside: sourceDirOf(source, version)}
	unlock, err := s.lock(ctx, "builds/"+filepath.Base(b.dir), true)
	if err != nil {
		return b, err
	}
	defer unlock()
	rm.env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	rm.binds = append(slices.Clip(rm.binds),
		bind{filepath.Join(b.dir, treeDir), buildParent, false},
		bind{filepath.Dir(dsc), "/tsugi/source", true})
	id := fmt.Sprintf("%s\n%s\n%s\n%q", filepath.Base(rm.root), r.configure, r.script, r.profiles)
	if err := b.start(id); err != nil {
		return b, err
	}
	if err := unpackSource(ctx, rm, b, "/tsugi/source/"+filepath.Base(dsc), rep); err != nil {
		return b, err
	}
	out, err := rm.run(ctx, b.inside, []string{"gcc", "--version"}, nil, nil)
	if err != nil {
		return b, code.New("TS3534", rm.root, "").With(err)
	}
	b.compiler, _, _ = strings.Cut(string(out), "\n")
	if b.env, err = buildEnv(ctx, rm, b.inside, r); err != nil {
		return b, err
	}
	if b.has(buildMark, id) {
		return b, nil
	}
	rm.env = append(slices.Clone(b.env), "JOBS="+strconv.Itoa(jobs))
	rm.binds = append(rm.binds, bind{filepath.Join(b.dir, recordDir), logDir, false})
	for _, step := range []struct{ mark, name, script string }{
		{confMark, "configure ", r.configure}, {"", "build ", r.script},
	} {
		if step.mark != "" && b.has(step.mark, id) {
			continue
		}
		if step.script != "" {
			if step.mark == "" && r.stub {
				rm.env = append(rm.env, "TSUGI_STUB=1")
			}
			err := runScript(ctx, rm, b, step.name+path.Base(b.inside), step.script, rep)
			if err != nil && !(step.mark == "" && r.stub && code.Of(err) == "TS3536") {
				return b, err
			}
		}
		if step.mark != "" {
			if err := b.set(step.mark, id); err != nil {
				return b, err
			}
		}
	}
	c, err := collect(b, r)
	if err != nil {
		return b, err
	}
	if err := writeCommands(filepath.Join(b.dir, commandsFile), c); err != nil {
		return b, err
	}
	return b, b.set(buildMark, id)
}

// start makes the directories of a build. What another recipe or root built,
// or was interrupted in configuring, is thrown away.
func (b built) start(id string) error {
	if !b.has(buildMark, id) && !b.has(confMark, id) {
		for _, f := range []string{buildMark, confMark, commandsFile, buildLog, treeDir, recordDir} {
			if err := os.RemoveAll(filepath.Join(b.dir, f)); err != nil {
				return err
			}
		}
	}
	for _, d := range []string{treeDir, recordDir} {
		if err := os.MkdirAll(filepath.Join(b.dir, d), 0o755); err != nil {
			return kernel.DiskError(b.dir, err)
		}
		if os.Geteuid() == 0 {
			if err := os.Lchown(filepath.Join(b.dir, d), nobody, nobody); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b built) has(mark, id string) bool {
	have, err := os.ReadFile(filepath.Join(b.dir, mark))
	return err == nil && string(have) == id
}

func (b built) set(mark, id string) error {
	path := filepath.Join(b.dir, mark)
	return kernel.DiskError(path, renameio.WriteFile(path, []byte(id), 0o644))
}

func unpackSource(ctx context.Context, rm room, b built, dsc string, rep progress.Reporter) (err error) {
	if _, err := os.Stat(b.tree()); err == nil {
		return nil
	}
	task := rep.Start("unpack source", 0, progress.Steps)
	defer func() { task.Done(err) }()
	tmp := b.inside + ".partial"
	if err := os.RemoveAll(b.tree() + ".partial"); err != nil {
		return err
	}
	_, err = rm.run(ctx, "/", []string{"dpkg-source", "--no-check", "--no-copy", "-x", dsc, tmp}, nil, nil)
	if exit, ok := errors.AsType[*kernel.ExitError](err); ok {
		return code.New("TS3535", dsc, kernel.ErrorLines(exit.Output)).With(err)
	}
	if err != nil {
		return err
	}
	return os.Rename(b.tree()+".partial", b.tree())
}

// buildEnv is the environment that dpkg-buildpackage gives to debian/rules,
// with the compiler flags as debian/rules changes them: what debhelper would
// export to the commands of its targets.
func buildEnv(ctx context.Context, rm room, dir string, r recipe) ([]string, error) {
	script := `
epoch=$(dpkg-parsechangelog -STimestamp)
echo "SOURCE_DATE_EPOCH=$epoch"
dpkg-architecture
`
	if r.flags {
		script += `printf 'include debian/rules\n.PHONY: tsugi-flags\ntsugi-flags:\n\t@DEB_BUILD_MAINT_OPTIONS="$(DEB_BUILD_MAINT_OPTIONS)" dpkg-buildflags >/tmp/flags.out\n' >/tmp/flags.mk
SOURCE_DATE_EPOCH=$epoch make -s -f /tmp/flags.mk tsugi-flags >/dev/null
cat /tmp/flags.out
`
	}
	base := []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "LC_ALL=C.UTF-8", "TMPDIR=/tmp", "LOGNAME=tsugi", "USER=tsugi", "SHELL=/bin/sh", "TZ=UTC",
		"DEB_BUILD_OPTIONS=nocheck nodoc", "DEB_BUILD_PROFILES=" + strings.Join(r.allProfiles(), " "), "DEB_RULES_REQUIRES_ROOT=no",
	}
	rm.env = base
	out, err := rm.run(ctx, dir, []string{"sh", "-euc", script}, nil, nil)
	if exit, ok := errors.AsType[*kernel.ExitError](err); ok {
		return nil, code.New("TS3536", dir, kernel.ErrorLines(exit.Output)).With(err)
	}
	if err != nil {
		return nil, err
	}
	env := base
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSuffix(line, "\n")
		if name, _, ok := strings.Cut(line, "="); ok && envName.MatchString(name) {
			env = append(env, line)
		}
	}
	return env, nil
}

var envName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// runScript runs a step of a recipe. What it prints goes to the build's log.
func runScript(ctx context.Context, rm room, b built, name, script string, rep progress.Reporter) (err error) {
	task := rep.Start(name, 0, progress.Files)
	defer func() { task.Done(err) }()
	logPath := filepath.Join(b.dir, buildLog)
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return kernel.DiskError(logPath, err)
	}
	defer log.Close()
	before, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		countRecords(filepath.Join(b.dir, recordDir), task, done)
	}()
	_, err = rm.run(ctx, b.inside, []string{"nice", "-n", "5", "sh", "-euc", "exec 2>&1\n" + script}, nil, log)
	close(done)
	<-stopped
	exit, ok := errors.AsType[*kernel.ExitError](err)
	if !ok || code.Of(err) != "" {
		return err
	}
	text, readErr := lastPart(logPath, before, 1<<20)
	if readErr != nil {
		return errors.Join(exit, readErr)
	}
	if bytes.Contains(text, []byte("No space left on device")) {
		return code.New("TS9103", b.dir, "").With(err)
	}
	return code.New("TS3536", logPath, cmp.Or(kernel.ErrorLines(text), lastLine(text))).With(err)
}

// countRecords shows how many commands a build has run.
func countRecords(dir string, task progress.Task, done <-chan struct{}) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	shown := 0
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		names, _ := f.Readdirnames(-1)
		f.Close()
		task.Add(int64(max(0, len(names)-shown)))
		shown = max(shown, len(names))
	}
}

// lastPart reads the end of a file from an offset on, most bytes at most.
func lastPart(path string, from, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, max(0, min(most, st.Size()-from)))
	if _, err := f.ReadAt(b, st.Size()-int64(len(b))); err != nil {
		return nil, err
	}
	return b, nil
}

// collect reads the records of a build, in the order in which they were
// written. Commands whose object is gone, as those of configure, are left out.
func collect(b built, r recipe) (*Commands, error) {
	dir := filepath.Join(b.dir, recordDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	type timed struct {
		at time.Time
		v  invocation
	}
	var all []timed
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		v, err := parseRecord(text)
		if err != nil { // of a run that was killed; make runs such a command again
			continue
		}
		all = append(all, timed{info.ModTime(), v})
	}
	slices.SortStableFunc(all, func(x, y timed) int { return x.at.Compare(y.at) })
	c := new(Commands)
	there := func(name string) bool {
		rest, ok := strings.CutPrefix(name, b.inside+"/")
		if !ok {
			return false
		}
		_, err := os.Lstat(filepath.Join(b.tree(), rest))
		return err == nil
	}
	for _, t := range all {
		if cmd, ok := compileOf(t.v); ok {
			if there(cmd.Object) {
				c.Compiles = append(c.Compiles, cmd)
			}
		} else if l, ok := linkOf(t.v); ok && there(l.Output) {
			c.Links = append(c.Links, l)
		}
	}
	if r.compileCommands != "" {
		text, err := os.ReadFile(filepath.Join(b.tree(), r.compileCommands))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, code.New("TS3537", r.compileCommands, "the build did not make it").With(err)
		}
		if err != nil {
			return nil, err
		}
		more, err := parseDatabase(text)
		if err != nil {
			return nil, code.New("TS3537", r.compileCommands, "").With(err)
		}
		c.Compiles = append(more, c.Compiles...) // what was run in truth comes last, and counts
	}
	if len(c.Compiles) == 0 {
		return nil, code.New("TS3537", b.dir, "no command was recorded")
	}
	return c, nil
}
