// SPDX-License-Identifier: Apache-2.0

// Package layers holds no code, only the tests that keep the house in order:
// which package may import which, which stay pure, and what every file has.
// docs/architecture.md explains the layers.
package layers

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

const module = "github.com/tsugi-project/tsugi/"

var (
	leaf   = []string{"code", "progress", "strict", "order", "ctext", "elfobj", "insn", "kimage", "modsig", "pkgfile", "layout", "hostinfo", "cve", "window", "dso", "unwind"}
	domain = []string{"arch", "objdiff", "klp", "kernel", "kbuild", "fix", "livepatch", "series", "update", "selection", "vm", "trust", "policy", "preflight", "kload", "splice"}
)

// allowed says what each package below internal/ may import of the others.
// A package that is not here fails the test: a new one takes its place first.
func allowed() map[string][]string {
	below := func(more ...string) []string { return append(slices.Clone(leaf), more...) }
	return map[string][]string{
		// leaf: no package of this project but code, progress and order
		"code":     {"order"},
		"progress": nil,
		"strict":   nil,
		"order":    nil,
		"ctext":    nil,
		"elfobj":   {"code"},
		"insn":     nil,
		"kimage":   {"code"},
		"layout":   nil,
		"hostinfo": {"code", "order"},
		"cve":      {"code"},
		"modsig":   {"code"},
		"dso":      {"code"},
		"unwind":   nil,
		"window":   nil, // times of the week: of machines and of rollouts
		"pkgfile":  {"code", "progress"},
		// domain
		"arch":      below(),
		"objdiff":   below("arch"),
		"kernel":    below(),
		"fix":       below(),
		"series":    below("fix"),
		"update":    below("fix", "series"),
		"selection": below("fix", "series"),
		"kbuild":    below("kernel", "fix"),
		"klp":       below("objdiff", "kernel", "arch"),
		"livepatch": below(),
		"vm":        below(),
		"trust":     below("livepatch"),
		"policy":    below("livepatch", "trust"),
		"authz":     {"code"},
		"preflight": below("livepatch"),
		"kload":     below(),
		"splice":    below(),
		"process":   below("splice"),
		"userland":  below("objdiff", "arch", "fix", "splice", "kernel", "livepatch"), // kernel: the store, locks, downloads
		"rollout":   below("api"),                                                     // facts are in the words of machines
		// services
		"builder":    below(domain...),
		"catalogue":  below("fix", "series", "update", "kernel", "userland"),
		"cumulative": append(below(domain...), "userland", "builder"),
		"survey":     append(below(domain...), "builder", "cumulative"),
		"proof":      below("vm", "livepatch", "kernel", "kload", "trust", "splice", "process", "userland", "agent"), // agent: the keeper of processes
		"api":        {"code", "strict"},
		"store":      {"code"},
		"people":     {"code", "authz", "api", "store"},
		"console":    nil, // files that are built in; the server mounts them
		"publish":    below("livepatch", "splice", "trust", "policy", "fix", "series", "selection", "store"),
		"jobs":       below("livepatch", "kernel", "kbuild", "userland", "fix", "series", "selection", "store", "api", "builder", "cumulative", "proof"),
		"server":     below("livepatch", "trust", "policy", "fix", "series", "selection", "store", "api", "publish", "jobs", "console", "authz", "people", "rollout", "notify", "courier"),
		"agent":      below("livepatch", "trust", "policy", "preflight", "kload", "api", "splice", "process"),
		"fleetfile":  below("fix", "series", "selection", "trust", "api", "notify", "rollout"), // what a fleet shall be, in the API's words (pure)
		"notify":     {"code"},                                                                 // whom to tell what (pure); courier carries it out
		"courier":    {"code", "notify"},
		// edge
		"ui":        {"code", "progress"},
		"command":   {"code", "progress", "ui"},
		"cli":       append(below(domain...), "userland", "builder", "catalogue", "cumulative", "survey", "proof", "api", "fleetfile", "rollout", "authz", "ui", "command"),
		"agentcli":  below("livepatch", "trust", "policy", "preflight", "kload", "process", "api", "agent", "ui", "command"),
		"servercli": append(below(domain...), "builder", "cumulative", "proof", "api", "store", "publish", "jobs", "server", "ui", "command", "authz", "people", "notify", "courier"),
		// tests only
		"testenv": append(below(domain...), "builder", "catalogue", "cumulative", "survey", "store"),
		"layers":  nil,
	}
}

// pure packages decide and transform; files, processes, networks and clocks
// are their callers' business.
var (
	pure   = []string{"cve", "series", "update", "selection", "code", "progress", "strict", "order", "ctext", "elfobj", "insn", "arch", "objdiff", "fix", "livepatch", "policy", "preflight", "fleetfile", "notify", "authz", "window", "rollout", "dso", "unwind", "splice"}
	impure = []string{"os", "os/exec", "net", "net/http", "syscall", "golang.org/x/sys/unix"}
)

type pkg struct {
	ImportPath, Dir string
	Imports         []string
	GoFiles         []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Imports,GoFiles", module+"...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", stderr.String()))
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	qt.Assert(t, qt.IsTrue(len(all) > 5), qt.Commentf("go list found %d packages", len(all)))
	return all
}

// unit is the package below internal/ that a path belongs to: "vm" for vm/guest.
func unit(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, module+"internal/")
	name, _, _ := strings.Cut(rest, "/")
	return name, ok
}

func TestImportsOnlyGoDown(t *testing.T) {
	t.Parallel()
	rules := allowed()
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			to, ours := unit(imp)
			if !ours {
				continue
			}
			from, ok := unit(p.ImportPath)
			switch {
			case strings.HasPrefix(p.ImportPath, module+"demo/"), strings.HasPrefix(p.ImportPath, module+"test/"): // nothing ships of it
			case !ok: // cmd: the command tree and the guest's side of the virtual machine
				if !slices.Contains([]string{"cli", "agentcli", "servercli", "command"}, to) && !strings.HasSuffix(imp, "/guest") {
					t.Errorf("%s imports %s: a main package calls its command tree and no other", p.ImportPath, imp)
				}
			case from == to:
			case rules[from] == nil && !hasRule(rules, from):
				t.Errorf("%s has no place among the layers: give it one in layers_test.go and docs/architecture.md", p.ImportPath)
			case !slices.Contains(rules[from], to):
				t.Errorf("%s imports %s: not down the layers", p.ImportPath, imp)
			}
		}
		if from, ok := unit(p.ImportPath); ok && !hasRule(rules, from) {
			t.Errorf("%s has no place among the layers", p.ImportPath)
		}
	}
}

func hasRule(rules map[string][]string, name string) bool {
	_, ok := rules[name]
	return ok
}

// TestTheTableOfLayersIsWhole: docs/architecture.md has a line for each package,
// and says of the pure ones that they are.
func TestTheTableOfLayersIsWhole(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/architecture.md")
	qt.Assert(t, qt.IsNil(err))
	_, table, _ := strings.Cut(string(page), "| layer | package |")
	table, _, _ = strings.Cut(table, "\n\n")
	lines := map[string]string{}
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, " | "); len(cells) == 3 {
			for name := range strings.SplitSeq(cells[1], ", ") {
				lines[name] = strings.TrimSuffix(strings.TrimSpace(cells[2]), " |")
			}
		}
	}
	for name := range allowed() {
		line, ok := lines[name]
		qt.Check(t, qt.IsTrue(ok), qt.Commentf("%s has no line in docs/architecture.md", name))
		if said := strings.Contains(line, "(pure"); ok && said != slices.Contains(pure, name) {
			t.Errorf("docs/architecture.md says %q of %s, and the list of pure packages another thing", line, name)
		}
	}
}

func TestRulesNameNoTestHelpers(t *testing.T) {
	t.Parallel()
	for from, to := range allowed() {
		qt.Check(t, qt.IsFalse(slices.Contains(to, "testenv")), qt.Commentf("%s", from))
	}
}

func TestPurePackagesTouchNothing(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		name, _ := unit(p.ImportPath)
		if !slices.Contains(pure, name) {
			continue
		}
		for _, imp := range p.Imports {
			if slices.Contains(impure, imp) {
				t.Errorf("%s imports %s: this package is pure", p.ImportPath, imp)
			}
		}
	}
}

func TestOnlyTheEdgeKnowsTerminalsAndFlags(t *testing.T) {
	t.Parallel()
	edge := []string{"charm.land/", "github.com/spf13/", "github.com/vbauerster/", "github.com/charmbracelet/"}
	for _, p := range packages(t) {
		if name, ok := unit(p.ImportPath); !ok || slices.Contains([]string{"cli", "agentcli", "servercli", "command", "ui"}, name) {
			continue
		}
		for _, imp := range p.Imports {
			if slices.ContainsFunc(edge, func(e string) bool { return strings.HasPrefix(imp, e) }) {
				t.Errorf("%s imports %s", p.ImportPath, imp)
			}
		}
	}
}

// TestEveryDependencyIsExplained keeps docs/dependencies.md whole: what any of
// our packages imports has a line there, and what none imports has not.
func TestEveryDependencyIsExplained(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/dependencies.md")
	qt.Assert(t, qt.IsNil(err))
	text, _, _ := strings.Cut(string(page), "Tests only:")
	listed := map[string]bool{}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "| "); ok {
			if name, _, _ := strings.Cut(rest, " "); strings.Contains(name, "/") && strings.Contains(name, ".") {
				listed[name] = false
			}
		}
	}
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			if first, _, _ := strings.Cut(imp, "/"); !strings.Contains(first, ".") || strings.HasPrefix(imp, module) {
				continue
			}
			found := false
			for name := range listed {
				if imp == name || strings.HasPrefix(imp, name+"/") {
					listed[name], found = true, true
				}
			}
			if !found {
				t.Errorf("%s imports %s, which docs/dependencies.md does not explain", p.ImportPath, imp)
			}
		}
	}
	for name, used := range listed {
		if !used {
			t.Errorf("docs/dependencies.md explains %s, which nothing imports", name)
		}
	}
}

var codeForm = regexp.MustCompile(`^"(TS\d{4})"$`)

// TestCodesAndCatalogueAgree finds codes that are used but not explained, and
// explained but never used.
func TestCodesAndCatalogueAgree(t *testing.T) {
	t.Parallel()
	used := map[code.Code]bool{}
	goFiles(t, func(rel string, fset *token.FileSet, f *ast.File) {
		if strings.HasSuffix(rel, "_test.go") || strings.HasPrefix(rel, "internal/code/catalogue") {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok {
				return true
			}
			m := codeForm.FindStringSubmatch(lit.Value)
			if m == nil {
				return true
			}
			c := code.Code(m[1])
			used[c] = true
			if _, ok := code.Lookup(c); !ok {
				t.Errorf("%s: %s is not in the catalogue", fset.Position(lit.Pos()), c)
			}
			return true
		})
	})
	for _, e := range code.Catalogue() {
		if !used[e.Code] {
			t.Errorf("%s (%s) is in the catalogue and nowhere else", e.Code, e.Title)
		}
	}
}

// goFiles parses every Go file of the repository.
func goFiles(t *testing.T, visit func(rel string, fset *token.FileSet, f *ast.File)) {
	t.Helper()
	root, err := filepath.Abs("../..")
	qt.Assert(t, qt.IsNil(err))
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (path != root && strings.ContainsRune("._", rune(d.Name()[0])) || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		visit(rel, fset, f)
		return nil
	})
	qt.Assert(t, qt.IsNil(err))
}

// TestFilesAreInOrder checks what a reader of any file may rely on.
func TestFilesAreInOrder(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	goFiles(t, func(rel string, fset *token.FileSet, f *ast.File) {
		if !ast.IsGenerated(f) && (len(f.Comments) == 0 || f.Comments[0].List[0].Text != "// SPDX-License-Identifier: Apache-2.0") {
			t.Errorf("%s: the first line is not the licence", rel)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init function: nothing happens before main", fset.Position(fn.Pos()))
			}
		}
		if dir := filepath.Dir(rel); f.Doc != nil {
			documented[dir] = true
		} else if !documented[dir] {
			documented[dir] = false
		}
	})
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: no package comment", dir)
		}
	}
}
