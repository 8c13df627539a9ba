// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
	"go.yaml.in/yaml/v3"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
)

// notCalled are the operations that no program of ours calls by the client, and
// why not.
func notCalled() map[string]string {
	const (
		browser = "a passkey is a browser's: it is bound to the address that the browser shows"
		sent    = "a browser is sent to the provider and back"
	)
	return map[string]string{
		"sign-in-passkey-begin": browser, "sign-in-passkey-finish": browser, "begin-passkey": browser, "finish-passkey": browser, "confirm-passkey": browser,
		"sign-in-oidc-begin": sent, "sign-in-oidc-finish": sent, "connect-identity": sent,
		"sign-in-methods": "the sign-in page draws its buttons by it; tsugictl has the two ways that need no browser",
		"events":          "tells an open page when to ask again; a command asks when it is called",
		"health":          "for load balancers and service managers",
		"ready":           "for load balancers and service managers",
		"metrics":         "for Prometheus",
		"tuf-target":      "machines fetch it by package trust/updater, from wherever the TUF files are",
	}
}

// operationOf finds the operation of a request in docs/openapi.yaml.
type operationOf struct {
	paths []*regexp.Regexp
	ids   []map[string]string // by method, in lower case
}

func readOperations(t *testing.T) (o operationOf, all []string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/openapi.yaml")
	qt.Assert(t, qt.IsNil(err))
	var doc struct {
		Paths map[string]map[string]struct {
			ID string `yaml:"operationId"`
		}
	}
	qt.Assert(t, qt.IsNil(yaml.Unmarshal(b, &doc)))
	// What is written out comes before what a parameter matches.
	names := slices.SortedFunc(func(yield func(string) bool) {
		for p := range doc.Paths {
			if !yield(p) {
				return
			}
		}
	}, func(x, y string) int { return strings.Count(x, "{") - strings.Count(y, "{") })
	for _, p := range names {
		o.paths = append(o.paths, regexp.MustCompile("^"+regexp.MustCompile(`\\\{[^/]*\\\}`).ReplaceAllString(regexp.QuoteMeta(p), "[^/]+")+"$"))
		ids := map[string]string{}
		for method, line := range doc.Paths[p] {
			if line.ID != "" {
				ids[method] = line.ID
				all = append(all, line.ID)
			}
		}
		o.ids = append(o.ids, ids)
	}
	qt.Assert(t, qt.IsTrue(len(all) > 100), qt.Commentf("%d operations", len(all)))
	return o, all
}

func (o operationOf) request(r *http.Request) string {
	for i, p := range o.paths {
		if id := o.ids[i][strings.ToLower(r.Method)]; id != "" && p.MatchString(r.URL.EscapedPath()) {
			return id
		}
	}
	return ""
}

// asked calls every method of the client and says which operations each asks.
func asked(t *testing.T, o operationOf) map[string][]string {
	t.Helper()
	var mu sync.Mutex
	var ids []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		id := o.request(r)
		if id == "" {
			t.Errorf("%s %s is no operation of docs/openapi.yaml", r.Method, r.URL.Path)
		}
		mu.Lock()
		ids = append(ids, id)
		mu.Unlock()
		http.SetCookie(w, &http.Cookie{Name: api.SessionCookie, Value: "x"})
		_, _ = w.Write([]byte("{}"))
	}))
	t.Cleanup(s.Close)
	c, err := client.New(client.Options{URL: s.URL, HTTP: s.Client()})
	qt.Assert(t, qt.IsNil(err))
	found := map[string][]string{}
	for v, i := reflect.ValueOf(c), 0; i < v.NumMethod(); i++ {
		m := v.Method(i)
		args := []reflect.Value{reflect.ValueOf(t.Context())}
		if m.Type().NumIn() == 0 || m.Type().In(0).String() != "context.Context" {
			continue // it asks nothing
		}
		for k := 1; k < m.Type().NumIn(); k++ {
			arg := reflect.New(m.Type().In(k)).Elem()
			if arg.Kind() == reflect.Struct {
				if name := arg.FieldByName("Name"); name.IsValid() && name.Kind() == reflect.String {
					name.SetString("x")
				}
			}
			switch arg.Interface().(type) {
			case string:
				arg.SetString("x")
			case []byte:
				arg.SetBytes([]byte("{}"))
			case int64:
				arg.SetInt(1)
			default:
				if arg.Kind() == reflect.Interface && arg.Type().String() == "io.Reader" {
					arg.Set(reflect.ValueOf(strings.NewReader("")))
				}
			}
			args = append(args, arg)
		}
		ids = nil
		name := v.Type().Method(i).Name
		if name == "TellRollout" { // one method for all that one says to a rollout
			for _, verb := range []string{"halt", "resume", "skip", "abort", "revert", "hurry", "approve"} {
				args[2].SetString(verb)
				m.Call(args)
			}
		} else {
			m.Call(args)
		}
		qt.Check(t, qt.IsTrue(len(ids) > 0), qt.Commentf("client.%s asks nothing", name))
		found[name] = slices.Clone(ids)
	}
	return found
}

// calledMethods are the methods of the client that the programs call, by the
// types of their sources.
func calledMethods(t *testing.T) map[string]bool {
	t.Helper()
	const here, clientPath = "github.com/tsugi-project/tsugi/internal/", "github.com/tsugi-project/tsugi/internal/api/client"
	own := []string{clientPath, here + "cli", here + "agent", here + "agent/host", here + "agentcli", here + "servercli", here + "jobs"}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Dir,GoFiles,Export"}, own...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", stderr.String()))
	type pkg struct {
		ImportPath, Dir, Export string
		GoFiles                 []string
	}
	all := map[string]pkg{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
	fset := token.NewFileSet()
	from := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(all[path].Export) })
	compiled, err := from.Import(clientPath)
	qt.Assert(t, qt.IsNil(err))
	ours := types.NewPointer(compiled.Scope().Lookup("Client").Type())

	called := map[string]bool{}
	for _, path := range own {
		var files []*ast.File
		for _, name := range all[path].GoFiles {
			f, err := parser.ParseFile(fset, filepath.Join(all[path].Dir, name), nil, parser.SkipObjectResolution)
			qt.Assert(t, qt.IsNil(err))
			files = append(files, f)
		}
		info := types.Info{Selections: map[*ast.SelectorExpr]*types.Selection{}}
		_, err := (&types.Config{Importer: from}).Check(path, fset, files, &info)
		qt.Assert(t, qt.IsNil(err))
		for _, f := range files {
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if path == clientPath && (!ok || fn.Recv != nil) {
					continue // of its own package only what is no method: FetchCA
				}
				ast.Inspect(d, func(n ast.Node) bool {
					if s, ok := n.(*ast.SelectorExpr); ok && isOfClient(info.Selections[s], ours) {
						called[s.Sel.Name] = true
					}
					return true
				})
			}
		}
	}
	return called
}

// isOfClient reports whether a selection is a method of the client, or one of
// an interface behind which the client is.
func isOfClient(s *types.Selection, ours *types.Pointer) bool {
	if s == nil || s.Kind() == types.FieldVal {
		return false
	}
	if i, ok := s.Recv().Underlying().(*types.Interface); ok {
		return types.Implements(ours, i)
	}
	return strings.TrimPrefix(s.Recv().String(), "*") == ours.Elem().String()
}

// TestEveryOperationHasACommand is the promise that tsugictl, with the agent
// and the workers, does everything that the API can: what is left is named
// above, with the reason.
func TestEveryOperationHasACommand(t *testing.T) {
	t.Parallel()
	o, all := readOperations(t)
	methods, called := asked(t, o), calledMethods(t)
	by, why := map[string]string{}, notCalled()
	for name, ids := range methods {
		if !called[name] {
			// Tests wait for a server with Ready.
			if slices.ContainsFunc(ids, func(id string) bool { return why[id] == "" }) {
				t.Errorf("nothing calls client.%s (%s)", name, strings.Join(ids, ", "))
			}
			continue
		}
		for _, id := range ids {
			by[id] = name
		}
	}
	for _, id := range all {
		switch reason, listed := why[id]; {
		case by[id] == "" && !listed:
			t.Errorf("no command asks %s", id)
		case by[id] != "" && listed:
			t.Errorf("%s is called by client.%s: take it off the list (%s)", id, by[id], reason)
		}
		delete(why, id)
	}
	qt.Check(t, qt.HasLen(why, 0), qt.Commentf("no such operations"))
}
