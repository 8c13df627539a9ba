// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tsugi-project/tsugi/internal/testenv/port"
)

// TestFleetScripts runs the commands that talk to a server as an operator
// would, against a server that tsugi-server made and runs.
func TestFleetScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/fleet",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			p, err := port.Reserve()
			env.Setenv("PORT", strconv.Itoa(p))
			env.Setenv("TSUGI_HOME", env.WorkDir+"/home")
			env.Setenv("TSUGI_SESSION", env.WorkDir+"/config/session.json")
			env.Setenv("TSUGI_SERVER_WORKERS_COUNT", "0")
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "mkpatch": mkpatch, "mkspliced": mkspliced, "field": field, "ready": ready, "wait-for": waitFor,
			"person": person, "admin-sets": adminSets, "key-of": keyOf, "add-totp": addTOTP,
			"proofs-grow-old": tampers("UPDATE sessions SET proven = 0"), // nobody proved a moment ago who they are
			"forged":          tampers("UPDATE audit SET actor = 'nobody' WHERE seq = 2"),
		},
	})
}

// wait-for [-count=N] REGEXP PROGRAM ARGS: runs a program until its output
// matches.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	count := 0
	if len(args) > 0 && strings.HasPrefix(args[0], "-count=") {
		n, err := strconv.Atoi(strings.TrimPrefix(args[0], "-count="))
		ts.Check(err)
		count, args = n, args[1:]
	}
	if neg || len(args) < 2 {
		ts.Fatalf("usage: wait-for [-count=N] REGEXP PROGRAM ARGS...")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	for range 900 {
		ts.Check(ts.Exec(args[1], args[2:]...))
		if found := want.FindAllString(ts.ReadFile("stdout"), -1); len(found) > 0 && (count == 0 || len(found) == count) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("no %s in\n%s", args[0], ts.ReadFile("stdout"))
}

// field NAME VARIABLE: puts a field of the JSON result that the last command
// printed into a variable.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field NAME VARIABLE")
	}
	var out struct {
		Result json.RawMessage `json:"result"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &out))
	var one map[string]any
	if json.Unmarshal(out.Result, &one) != nil { // a list: of its first
		var many []map[string]any
		ts.Check(json.Unmarshal(out.Result, &many))
		one = many[0]
	}
	value, ok := one[args[0]].(string)
	if !ok {
		ts.Fatalf("no field %s in %s", args[0], out.Result)
	}
	ts.Setenv(args[1], value)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(value), 0o600))
}

// ready: waits until the server answers.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: time.Second}
	defer c.CloseIdleConnections()
	for range 900 {
		res, err := c.Get("https://127.0.0.1:" + ts.Getenv("PORT") + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("the server did not answer within a minute and a half")
}
