// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/tls"
	"database/sql"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tsugi-project/tsugi/internal/api"
)

// person LINK VARIABLE: comes in with a link (or the one in @FILE) as in a
// browser, makes an API key there, and puts it into a variable and a file of
// that name.
func person(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: person LINK VARIABLE")
	}
	link := args[0]
	if file, ok := strings.CutPrefix(link, "@"); ok {
		link = strings.TrimSpace(ts.ReadFile(file))
	}
	_, secret, _ := strings.Cut(link, "#")
	cookie := inBrowser(ts, "", "POST", "/v1/links/redeem", api.RedeemLink{Secret: secret, Password: "seven small otters sleep"}, nil)
	var made api.KeyMade
	inBrowser(ts, cookie, "POST", "/v1/account/keys", api.NewKey{Name: "test"}, &made)
	ts.Setenv(args[1], made.Secret)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(made.Secret), 0o600))
}

// admin-sets ACTION,...: an admin says in a browser what takes two people.
func adminSets(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: admin-sets ACTION,...")
	}
	ts.Check(ts.Exec("tsugi-server", "user", "link", "owner", "--sign-in", "--dir", "srv"))
	_, secret, _ := strings.Cut(strings.TrimSpace(ts.ReadFile("stdout")), "#")
	cookie := inBrowser(ts, "", "POST", "/v1/links/redeem", api.RedeemLink{Secret: secret}, nil)
	inBrowser(ts, cookie, "PUT", "/v1/approvals/actions", api.ApprovalActions{Actions: strings.Split(args[0], ",")}, nil)
}

// inBrowser asks the server with a session's cookie, and returns the one that
// holds then.
func inBrowser(ts *testscript.TestScript, cookie, method, path string, in, out any) string {
	body, err := json.Marshal(in)
	ts.Check(err)
	req, err := http.NewRequest(method, "https://127.0.0.1:"+ts.Getenv("PORT")+path, bytes.NewReader(body))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: 30 * time.Second}
	defer c.CloseIdleConnections()
	res, err := c.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	ts.Check(err)
	if res.StatusCode >= 300 {
		ts.Fatalf("%s %s: %s: %s", method, path, res.Status, text)
	}
	if out != nil {
		ts.Check(json.Unmarshal(text, out))
	}
	for _, k := range res.Cookies() {
		cookie = fmt.Sprintf("%s=%s", k.Name, k.Value)
	}
	return cookie
}

// key-of NAME VARIABLE: puts the id of a key of the list that was printed into
// a variable.
func keyOf(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: key-of NAME VARIABLE")
	}
	var out struct {
		Result []api.Key `json:"result"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &out))
	for _, k := range out.Result {
		if k.Name == args[0] {
			ts.Setenv(args[1], k.ID)
			return
		}
	}
	ts.Fatalf("no key %s", args[0])
}

// add-totp FILE: adds a second factor as a person does, who types the code that
// their authenticator makes of the secret that is shown, and keeps a recovery
// code.
func addTOTP(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: add-totp FILE")
	}
	cmd := exec.Command("tsugictl", "account", "totp", "add", "--json")
	cmd.Env = append(os.Environ(), "TSUGI_SESSION="+ts.Getenv("TSUGI_SESSION"))
	in, err := cmd.StdinPipe()
	ts.Check(err)
	said, err := cmd.StderrPipe()
	ts.Check(err)
	var out bytes.Buffer
	cmd.Stdout = &out
	ts.Check(cmd.Start())
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		word, secret, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if word == "secret" {
			_, err := fmt.Fprintln(in, totpNow(ts, strings.TrimSpace(secret)))
			ts.Check(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		ts.Fatalf("%v: %s", err, out.String())
	}
	var made struct {
		Result api.RecoveryCodes `json:"result"`
	}
	ts.Check(json.Unmarshal(out.Bytes(), &made))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(made.Result.Codes[0]+"\n"), 0o600))
}

// totpNow is the code that an authenticator shows (RFC 6238).
func totpNow(ts *testscript.TestScript, secret string) string {
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	ts.Check(err)
	h := hmac.New(sha1.New, key)
	ts.Check(binary.Write(h, binary.BigEndian, time.Now().Unix()/30))
	sum := h.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[at:])&0x7fffffff)%1_000_000)
}

// tampers is a command that changes the server's database behind its back.
func tampers(statement string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) > 0 {
			ts.Fatalf("usage: the command alone")
		}
		db, err := sql.Open("sqlite", "file:"+ts.MkAbs("srv/tsugi.db")+"?_pragma=busy_timeout(10000)")
		ts.Check(err)
		defer db.Close()
		_, err = db.Exec(statement)
		ts.Check(err)
	}
}
