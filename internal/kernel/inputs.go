// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Input is a file that what is built for a target depends on.
type Input struct {
	Name   string // "linux-source-6.1_6.1.190-1_all.deb", "gcc-12: cc1"
	Digest string // SHA-256, hex
}

// Inputs tells by digest what a target was made of and what compiles for it,
// ordered by name: its packages as the archive has them, or the image and the
// configuration of a tree; the compiler proper, the assembler and the linker.
// A package whose digest nothing remembers any more is left out.
func (t *Target) Inputs(ctx context.Context) ([]Input, error) {
	tools, err := t.tools(ctx)
	if err != nil {
		return nil, err
	}
	made, err := t.madeOf(ctx)
	if err != nil {
		return nil, err
	}
	all := append(made, tools...)
	slices.SortFunc(all, func(a, b Input) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// madeOf are the packages of a target. Targets that were added before they
// were written down find them in the store.
func (t *Target) madeOf(ctx context.Context) ([]Input, error) {
	if t.Foreign {
		d, err := fileDigest(ctx, t.Vmlinux)
		return []Input{{"vmlinux", d}, {".config", t.ConfigDigest}}, err
	}
	if len(t.Packages) > 0 {
		return slices.Clone(t.Packages), nil
	}
	var out []Input
	for _, name := range t.packageFiles() {
		path := filepath.Join(t.home, "debs", name)
		d, err := rememberedDigest(ctx, path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, Input{name, d})
	}
	return out, nil
}

// packageFiles names the files of the packages that a target was made of.
func (t *Target) packageFiles() []string {
	names := []string{debFileName(Deb{Name: t.Package, Version: t.PackageVersion, Arch: "amd64"})}
	release := strings.TrimPrefix(strings.TrimSuffix(t.Package, "-unsigned"), "linux-image-")
	names = append(names, debFileName(Deb{Name: "linux-headers-" + release, Version: t.SourceVersion, Arch: "amd64"}))
	if m := upstreamVersion.FindStringSubmatch(t.SourceVersion); m != nil {
		names = append(names, debFileName(Deb{Name: "linux-source-" + m[2], Version: t.SourceVersion, Arch: "all"}))
	}
	return names
}

// tools are the programs that make an object of a source.
func (t *Target) tools(ctx context.Context) ([]Input, error) {
	compiler, _, _ := strings.Cut(t.Compiler, " ")
	var out []Input
	for _, tool := range []string{"cc1", "as", "ld"} {
		b, err := Command{Name: compiler, Args: []string{"-print-prog-name=" + tool}}.Run(ctx)
		if err != nil {
			return nil, err
		}
		path := strings.TrimSpace(string(b))
		if !filepath.IsAbs(path) {
			if path, err = exec.LookPath(path); err != nil {
				return nil, missingTool(tool).With(err)
			}
		}
		d, err := fileDigest(ctx, path)
		if err != nil {
			return nil, err
		}
		out = append(out, Input{compiler + ": " + tool, d})
	}
	return out, nil
}

// rememberedDigest is the digest that intact wrote beside a package, or that
// of the package itself.
func rememberedDigest(ctx context.Context, path string) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	mark := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".sha256")
	if b, err := os.ReadFile(mark); err == nil {
		sum, rest, _ := strings.Cut(string(b), " ")
		if raw, err := hex.DecodeString(sum); err == nil && len(raw) == sha256.Size &&
			rest == fmt.Sprintf("%d %d\n", st.Size(), st.ModTime().UnixNano()) {
			return sum, nil
		}
	}
	return fileDigest(ctx, path)
}

func fileDigest(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, readerCtx{ctx, f}); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
