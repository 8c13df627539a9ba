// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/update"
	"github.com/tsugi-project/tsugi/internal/userland"
	"github.com/tsugi-project/tsugi/internal/userland/build"
)

// PackageUpdate returns what happens between the source of a target that is a
// package and another version of it, as Update does for kernels. Patches that
// the distribution has put on top are each a fix; what else differs, upstream's
// own changes among it, is split as a kernel's update is. Documentation, tests
// and packaging are left out of that.
func (c *Catalogue) PackageUpdate(ctx context.Context, store *userland.Store, t *userland.Target, to string, rep progress.Reporter) (*series.Series, error) {
	if to == t.SourceVersion {
		return nil, code.New("TS1211", to, "it is the version that "+t.Name+" is built of")
	}
	home := filepath.Join(t.Home(), "updates", fileName(PackageFrom(t), to))
	return c.kept(home, update.PackageVersion, PackageFrom(t), to, func(x *update.Corrections) (*series.Series, error) {
		return splitPackage(ctx, store, t, to, x, rep)
	})
}

// PackageFrom is what corrections of a package's update name as the version that
// it comes from.
func PackageFrom(t *userland.Target) string { return t.Source + "_" + t.SourceVersion }

func splitPackage(ctx context.Context, store *userland.Store, t *userland.Target, to string, x *update.Corrections, rep progress.Reporter) (_ *series.Series, err error) {
	from := t.SourceVersion
	sources, err := store.Sources(t)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sources.Close()) }()
	new, err := sources.Unpack(ctx, to, rep) // first: the archive may not have it any more
	if err != nil {
		return nil, err
	}
	old, err := sources.Unpack(ctx, from, rep)
	if err != nil {
		return nil, err
	}
	return fromTrees(ctx, t.Source, from, to, old, new, x, rep)
}

// fromTrees makes the series of two unpacked sources, which it changes.
func fromTrees(ctx context.Context, source, from, to, old, new string, x *update.Corrections, rep progress.Reporter) (*series.Series, error) {
	text, err := os.ReadFile(filepath.Join(new, "debian", "changelog"))
	if err != nil {
		return nil, err
	}
	stanzas, err := update.ParseChangelog("changelog of "+source+" "+to, text)
	if err != nil {
		return nil, err
	}
	entries, err := update.Between(stanzas, from, to)
	if err != nil {
		return nil, err
	}
	had, err := patchesOf(old)
	if err != nil {
		return nil, err
	}
	has, err := patchesOf(new)
	if err != nil {
		return nil, err
	}
	patches := update.NewPatches(had, has)
	files, err := layersOf(new, patches)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(patches))
	for i, p := range patches {
		names[i] = p.Name
	}
	if err := errors.Join(userland.TakeOff(old, nil), userland.TakeOff(new, names)); err != nil {
		return nil, err
	}
	task := rep.Start("compare sources", 0, progress.Steps)
	same, err := respell(ctx, old, new)
	if err == nil {
		patches, err = relay(new, patches, files)
	}
	task.Done(err)
	if err != nil {
		return nil, err
	}
	fixes, rest, err := update.Patched(to, patches, update.PackageItems(entries))
	if err != nil {
		return nil, err
	}
	news, err := newsOf(new)
	if err != nil {
		return nil, err
	}
	s, err := beneath(ctx, from, to, old, new, fixes, rest, news, x, rep)
	if s != nil {
		s.Formatted = same
	}
	return s, err
}

// beneath puts what differs below the new patches in front of them.
func beneath(ctx context.Context, from, to, old, new string, patches []*series.Fix, entries []update.Item, news map[string]string, x *update.Corrections, rep progress.Reporter) (*series.Series, error) {
	d := update.Delta{Old: ctxFS{ctx, os.DirFS(old)}, New: ctxFS{ctx, os.DirFS(new)}, Diff: &fix.Fix{}}
	task := rep.Start("compare sources", 0, progress.Steps)
	diff, err := fix.Derive(d.Old, d.New, nil)
	task.Done(err)
	if err != nil {
		return nil, kernel.OrInterrupted(ctx, err)
	}
	if len(diff) > 0 {
		all, err := fix.Parse(fileName(from, to)+".diff", diff)
		if err != nil {
			return nil, err
		}
		d.Diff, _ = build.Relevant(all)
	}
	if len(d.Diff.Files)+len(patches) == 0 {
		return nil, code.New("TS1107", from+" and "+to, "no difference but in packaging, tests and documentation").WithFix("choose other versions")
	}
	return splitDelta(ctx, d, entries, rep, func(groups []*update.Group) (*series.Series, error) {
		return update.PackageSeries(from, to, groups, patches, entries, news, x)
	})
}

// patchesOf reads the patches of an unpacked source, which may have none.
func patchesOf(tree string) ([]update.QuiltPatch, error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	list, err := root.ReadFile("debian/patches/series")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := update.QuiltNames(list)
	if err != nil {
		return nil, err
	}
	var out []update.QuiltPatch
	for _, name := range names {
		b, err := root.ReadFile("debian/patches/" + name)
		if err != nil {
			return nil, code.New("TS1214", name, "").With(err)
		}
		out = append(out, update.QuiltPatch{Name: name, Text: b})
	}
	return out, nil
}

// newsOf reads what an unpacked source tells of vulnerabilities.
func newsOf(tree string) (map[string]string, error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var all []byte
	for _, name := range []string{"NEWS", "NEWS.md", "CHANGES", "CHANGES.md"} {
		b, err := root.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		all = append(append(all, b...), "\n\n"...)
	}
	return update.News(all), nil
}
