// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/pkgfile"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// archive is apt with the machine's own package sources, their source packages
// added, and a system in which nothing is installed: so it finds everything
// that a build root needs, and changes nothing of this machine.
type archive struct {
	kernel.Apt
	dir string
}

// listsAge is how old apt's lists may be before they are fetched again.
const listsAge = 12 * time.Hour

// Apt is the apt that targets are fetched by, with fresh lists of packages.
func (s *Store) Apt(ctx context.Context, rep progress.Reporter) (kernel.Apt, error) {
	a, err := s.archive(ctx, rep)
	return a.Apt, err
}

// archive prepares apt's configuration in the store, and fetches the lists of
// packages when they are missing, old, or of other package sources.
func (s *Store) archive(ctx context.Context, rep progress.Reporter) (_ archive, err error) {
	unlock, err := s.lock(ctx, "apt", true)
	if err != nil {
		return archive{}, err
	}
	defer unlock()
	a := archive{Apt: kernel.Apt{Config: s.at("apt", "apt.conf")}, dir: s.at("apt")}
	texts, err := sourceLists(ctx)
	if err != nil {
		return archive{}, err
	}
	changed, err := a.configure(texts)
	if err != nil {
		return archive{}, err
	}
	stamp := s.at("apt", "updated")
	if st, err := os.Stat(stamp); err == nil && !changed && time.Since(st.ModTime()) < listsAge {
		return a, nil
	}
	task := rep.Start("lists of packages", 0, progress.Steps)
	defer func() { task.Done(err) }()
	if _, err := a.Command("apt-get", "-q", "update").Run(ctx); err != nil {
		return archive{}, aptProblem("lists of packages", err)
	}
	return a, kernel.DiskError(stamp, renameio.WriteFile(stamp, nil, 0o644))
}

// configure writes apt's configuration and tells whether the package sources
// are others than before.
func (a archive) configure(texts map[string]string) (changed bool, err error) {
	for _, d := range []string{"sources.list.d", "preferences.d", "lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return false, kernel.DiskError(a.dir, err)
		}
	}
	conf := fmt.Sprintf(`Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "%[1]s/sources.list.d";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "%[1]s/preferences.d";
Dir::State::lists "%[1]s/lists";
Dir::State::status "%[1]s/status";
Dir::State::extended_states "%[1]s/extended_states";
Dir::Cache "%[1]s/cache";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Pre-Invoke;
`, a.dir)
	for file, text := range map[string]string{"apt.conf": conf, "status": ""} {
		if err := renameio.WriteFile(filepath.Join(a.dir, file), []byte(text), 0o644); err != nil {
			return false, kernel.DiskError(a.dir, err)
		}
	}
	parts := filepath.Join(a.dir, "sources.list.d")
	old, err := os.ReadDir(parts)
	if err != nil {
		return false, err
	}
	for _, e := range old {
		if _, ok := texts[e.Name()]; !ok {
			changed = true
			if err := os.Remove(filepath.Join(parts, e.Name())); err != nil {
				return false, err
			}
		}
	}
	for name, text := range texts {
		path := filepath.Join(parts, name)
		if b, err := os.ReadFile(path); err == nil && string(b) == text {
			continue
		}
		changed = true
		if err := renameio.WriteFile(path, []byte(text), 0o644); err != nil {
			return false, kernel.DiskError(path, err)
		}
	}
	return changed, nil
}

// sourceLists gives the package sources of this machine of which apt has
// lists, with their source packages added, as files of sources.list.d.
func sourceLists(ctx context.Context) (map[string]string, error) {
	out, err := kernel.Command{
		Name: "apt-get",
		Args: []string{"indextargets", "--format", "$(SOURCESENTRY)", "Created-By: Packages"},
	}.Run(ctx)
	if err != nil {
		return nil, aptProblem("package sources", err)
	}
	texts := make(map[string]string)
	entries := slices.Compact(slices.Sorted(strings.SplitSeq(strings.TrimSpace(string(out)), "\n")))
	for _, e := range entries {
		if e == "" {
			continue
		}
		i := strings.LastIndexByte(e, ':')
		n, err := strconv.Atoi(e[i+1:])
		if i < 0 || err != nil {
			return nil, code.New("TS3531", e, "it is not FILE:NUMBER")
		}
		b, err := os.ReadFile(e[:i])
		if err != nil {
			return nil, code.New("TS3531", e, "").With(err)
		}
		entry, err := withSources(filepath.Ext(e[:i]), b, n)
		if err != nil {
			return nil, code.New("TS3531", e, "").With(err)
		}
		texts[filepath.Base(e[:i])] += entry
	}
	if len(texts) == 0 {
		return nil, code.New("TS3531", "apt", "it has no list of packages: run apt-get update")
	}
	return texts, nil
}

// withSources gives entry n of a file of package sources with "deb-src" beside
// "deb": of a .sources file its n-th stanza, of a .list file its n-th line
// (sources.list(5)).
func withSources(ext string, text []byte, n int) (string, error) {
	if ext == ".sources" {
		stanzas, err := pkgfile.ReadControl(bytes.NewReader(text))
		if err != nil {
			return "", err
		}
		if n < 1 || n > len(stanzas) {
			return "", fmt.Errorf("stanza %d of %d", n, len(stanzas))
		}
		var b strings.Builder
		for name, value := range stanzas[n-1].Fields() {
			if strings.EqualFold(name, "Types") {
				value = "deb deb-src"
			}
			fmt.Fprintf(&b, "%s: %s\n", name, strings.ReplaceAll(value, "\n", "\n "))
		}
		return b.String() + "\n", nil
	}
	lines := strings.Split(string(text), "\n")
	if n < 1 || n > len(lines) {
		return "", fmt.Errorf("line %d of %d", n, len(lines))
	}
	line := strings.TrimSpace(lines[n-1])
	rest, ok := strings.CutPrefix(line, "deb")
	if !ok || rest == "" || rest[0] != ' ' && rest[0] != '\t' {
		return "", fmt.Errorf("line %d is not of binary packages: %.60q", n, line)
	}
	return line + "\ndeb-src" + rest + "\n", nil
}

// aptProblem is what apt says of a failed run.
func aptProblem(where string, err error) error {
	if code.Of(err) != "" {
		return err
	}
	return code.New("TS2305", where, kernel.AptMessage(err)).With(err)
}

// find finds one version of a binary package.
func (a archive) find(ctx context.Context, name, version string) (kernel.Deb, error) {
	all, err := a.Show(ctx, name)
	if err != nil {
		return kernel.Deb{}, err
	}
	if len(all) == 0 {
		return kernel.Deb{}, code.New("TS2303", name, "")
	}
	var have []string
	for _, d := range all {
		if d.Name != name {
			continue
		}
		if d.Version == version {
			if d.Arch != "amd64" {
				return d, code.New("TS3530", name+" = "+version, "it is of architecture "+d.Arch)
			}
			return d, nil
		}
		have = append(have, d.Version)
	}
	return kernel.Deb{}, code.New("TS2304", name+" = "+version, "there is "+strings.Join(have, ", "))
}

// rootPackages finds what a root needs in which a source package is built:
// what every Debian system has, the compiler, and the build dependencies.
func (a archive) rootPackages(ctx context.Context, source, version string, r recipe) ([]kernel.Deb, error) {
	base := append([]string{"install", "-y", "--print-uris", "--", "?essential", "build-essential", "fakeroot"}, r.packages...)
	deps := []string{"build-dep", "-y", "--print-uris", "-P", strings.Join(r.allProfiles(), ","), "--arch-only", "--", source + "=" + version}
	var names []string
	for _, args := range [][]string{base, deps} {
		out, err := a.Command("apt-get", args...).Run(ctx)
		if err != nil {
			return nil, code.New("TS3533", source+" "+version, kernel.AptMessage(err)).With(err)
		}
		names = append(names, printedPackages(string(out))...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	debs, err := a.Show(ctx, names...)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool) // an archive may list a package in two suites
	debs = slices.DeleteFunc(debs, func(d kernel.Deb) bool {
		dup := seen[d.Name+"="+d.Version]
		seen[d.Name+"="+d.Version] = true
		return dup
	})
	if len(debs) != len(names) {
		return nil, code.New("TS3533", source+" "+version, fmt.Sprintf("apt chose %d packages and shows %d", len(names), len(debs)))
	}
	slices.SortFunc(debs, func(x, y kernel.Deb) int { return strings.Compare(x.File, y.File) })
	return debs, nil
}

// printedPackages reads the lines 'URI' FILE SIZE HASH that apt-get prints
// instead of downloading, and gives NAME=VERSION of each binary package.
func printedPackages(out string) []string {
	var names []string
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 3 || !strings.HasPrefix(f[0], "'") || !strings.HasSuffix(f[1], ".deb") {
			continue
		}
		part := strings.Split(strings.TrimSuffix(f[1], ".deb"), "_")
		if len(part) != 3 {
			continue
		}
		version := strings.NewReplacer("%5f", "_", "%3a", ":").Replace(part[1])
		names = append(names, part[0]+"="+version)
	}
	return names
}

// FetchSource downloads a source package, of a target or of the version with
// the fixes that it lacks, and returns the directory of its files.
func (s *Store) FetchSource(ctx context.Context, source, version string, rep progress.Reporter) (string, error) {
	dir := s.at("sources", buildName(source, version))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil // it is whole, and the archive need not be there any more
	}
	a, err := s.archive(ctx, rep)
	if err != nil {
		return "", err
	}
	dsc, err := s.fetchSource(ctx, a, source, version, rep)
	return filepath.Dir(dsc), err
}

// fetchSource downloads a source package into a directory and returns the
// path of its .dsc. apt-get checks signatures and digests.
func (s *Store) fetchSource(ctx context.Context, a archive, source, version string, rep progress.Reporter) (string, error) {
	dir := s.at("sources", buildName(source, version))
	unlock, err := s.lock(ctx, "source "+filepath.Base(dir), true)
	if err != nil {
		return "", err
	}
	defer unlock()
	err = kernel.Stage(ctx, dir, "download source", rep, func(tmp string, task progress.Task) error {
		task.Note(source + " " + version)
		cmd := a.Command("apt-get", "-q", "--download-only", "--only-source", "source", "--", source+"="+version)
		cmd.Dir = tmp
		if _, err := cmd.Run(ctx); err != nil {
			return code.New("TS3532", source+" "+version, kernel.AptMessage(err)).With(err)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.dsc"))
	if err != nil || len(found) != 1 {
		return "", code.New("TS3532", dir, fmt.Sprintf("%d .dsc files", len(found)))
	}
	return found[0], nil
}

// fileExists tells whether a regular file is there.
func fileExists(path string) (bool, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && st.Mode().IsRegular(), err
}
