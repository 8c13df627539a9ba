// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/spf13/pflag"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/servercli/config"
)

const minimal = "url: https://patches.example.org:8443\n"

func load(t *testing.T, file string, environ []string, args ...string) (*config.Config, error) {
	t.Helper()
	dir := t.TempDir()
	if file != "" {
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, config.FileName), []byte(file), 0o600)))
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	flags.String("url", "", "")
	flags.String("listen", "", "")
	flags.String("log-level", "", "")
	flags.Int("workers-count", 0, "")
	flags.Bool("json", false, "")
	qt.Assert(t, qt.IsNil(flags.Parse(args)))
	return config.Load(config.Sources{Dir: dir, Environ: environ, Flags: flags})
}

func TestAGroupOfCommentsIsNoGroup(t *testing.T) {
	t.Parallel()
	c, err := load(t, minimal+"tls:\n# mode: own\nstorage: {s3: }\n", nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(c.TLS.Mode, "own"))
	qt.Check(t, qt.Equals(c.Storage.S3.Region, "us-east-1"))
}

func TestEachSourceOverridesTheOneBefore(t *testing.T) {
	t.Parallel()
	file := minimal + "log: {level: warn}\nkeys: {lifetimes: {root: 365d}}\ninterval: 10m\ntls: {names: [a.example.org, 10.0.0.1]}\n"
	c, err := load(t, file, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(c.Log.Level, "warn"))
	qt.Check(t, qt.Equals(c.Log.Format, "auto")) // the default of a key beside one that is given
	qt.Check(t, qt.Equals(c.Interval, 10*time.Minute))
	qt.Check(t, qt.DeepEquals(c.TLS.Names, []string{"a.example.org", "10.0.0.1"}))
	qt.Check(t, qt.Equals(c.Keys.Lifetimes.Root, 365*24*time.Hour))
	qt.Check(t, qt.Equals(c.Workers.Count, 1))
	qt.Check(t, qt.Equals(c.Address(), ":8443"))

	c, err = load(t, file, []string{"TSUGI_SERVER_LOG_LEVEL=error", "TSUGI_SERVER_INTERVAL=90s", "TSUGI_SERVER_TLS_NAMES=b,c", "TSUGI_SERVER_WORKERS_COUNT=3", "TSUGI_SERVER_STORAGE_S3_SECRET_KEY=x", "PATH=/bin", "TSUGI_HOME=/x"})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(c.Log.Level, "error"))
	qt.Check(t, qt.Equals(c.Interval, 90*time.Second))
	qt.Check(t, qt.DeepEquals(c.TLS.Names, []string{"b", "c"}))
	qt.Check(t, qt.Equals(c.Workers.Count, 3))
	qt.Check(t, qt.Equals(string(c.Storage.S3.SecretKey), "x"))

	c, err = load(t, file, []string{"TSUGI_SERVER_LOG_LEVEL=error"}, "--log-level=debug", "--listen=127.0.0.1:1", "--workers-count=0", "--json")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(c.Log.Level, "debug"))
	qt.Check(t, qt.Equals(c.Address(), "127.0.0.1:1"))
	qt.Check(t, qt.Equals(c.Workers.Count, 0)) // 0 that was given is not 0 that was not
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file, env string
		code            code.Code
		where, why      string // parts
	}{
		{"an unknown key", minimal + "lisen: x\n", "", "TS7802", "server.yaml: lisen", "did you mean listen?"},
		{"an unknown key in a group", minimal + "tls: {mod: own}\n", "", "TS7802", "tls.mod", "did you mean tls.mode?"},
		{"nothing near it", minimal + "elephants: 3\n", "", "TS7802", "elephants", "there is no such key"},
		{"a key below a value", minimal + "listen: {port: 3}\n", "", "TS7802", "listen.port", "listen is a value and no group"},
		{"a value for a group", minimal + "tls: own\n", "", "TS7802", "tls", "it is a group"},
		{"an unknown variable", minimal, "TSUGI_SERVER_TLS_MOD=own", "TS7802", "TSUGI_SERVER_TLS_MOD", "did you mean tls.mode?"},
		{"no YAML", "url: [", "", "TS7801", "server.yaml", ""},
		{"a key twice", minimal + minimal, "", "TS7801", "server.yaml", "already defined"},
		{"a list", "- 1\n", "", "TS7801", "server.yaml", ""},
		{"no url", "listen: ':1'\n", "", "TS7803", "url", "empty"},
		{"an empty file", "# nothing\n", "", "TS7803", "url", "empty"},
		{"a url without a scheme", "url: example.org\n", "", "TS7803", "url", ""},
		{"a url with a path", "url: https://h/tsugi\n", "", "TS7803", "url", "more than"},
		{"a url with a password", "url: https://u:p@h\n", "", "TS7803", "url", "more than"},
		{"another scheme", "url: ftp://h\n", "", "TS7803", "url", "neither"},
		{"plain http with TLS", "url: http://h\n", "", "TS7803", "url", "tls.mode is own"},
		{"no duration", minimal + "interval: often\n", "", "TS7803", "interval", "no duration"},
		{"a number for a duration", minimal + "interval: 5\n", "", "TS7803", "interval", "no duration"},
		{"a signature that ends at once", minimal + "keys: {lifetimes: {timestamp: 1s}}\n", "", "TS7803", "keys.lifetimes", "at least"},
		{"days that are none", minimal + "keys: {lifetimes: {root: -3d}}\n", "", "TS7803", "keys.lifetimes.root", "no duration"},
		{"too short an interval", minimal + "interval: 1s\n", "", "TS7803", "interval", "not from"},
		{"mail from nobody", minimal + "mail: {host: h}\n", "", "TS7803", "mail.from", "empty"},
		{"mail without a server", minimal + "mail: {from: a@b.example}\n", "", "TS7803", "mail.host", "empty"},
		{"security that there is not", minimal + "mail: {security: ssl}\n", "", "TS7803", "mail.security", "none of"},
		{"a network that is none", minimal + "webhooks: {allow: [localhost]}\n", "", "TS7803", "webhooks.allow[0]", "neither"},
		{"a proxy that is none", minimal + "webhooks: {proxy: proxy}\n", "", "TS7803", "webhooks.proxy", "HOST"},
		{"a session that never ends", minimal + "sign_in: {life: 9000d}\n", "", "TS7803", "sign_in.life", "not from"},
		{"a role that there is not", minimal + "oidc: {roles: [ops=king]}\n", "", "TS7803", "oidc.roles[0]", "king"},
		{"a provider without a client", minimal + "oidc: {issuer: 'https://id.example.org'}\n", "", "TS7803", "oidc.client_id", "empty"},
		{"users without roles", minimal + "oidc: {issuer: 'https://id.example.org', client_id: t, create: 'yes'}\n", "", "TS7803", "oidc.create", "no role"},
		{"no number", minimal + "workers: {count: many}\n", "", "TS7803", "workers.count", "no whole number"},
		{"half a worker", minimal + "workers: {count: 1.5}\n", "", "TS7803", "workers.count", "no whole number"},
		{"negative workers", minimal, "TSUGI_SERVER_WORKERS_COUNT=-1", "TS7803", "workers.count", "not from"},
		{"text that is a number", minimal + "log: {level: 3}\n", "", "TS7803", "log.level", "quotes"},
		{"a level that is none", minimal + "log: {level: loud}\n", "", "TS7803", "log.level", "none of"},
		{"a format that is none", minimal + "log: {format: xml}\n", "", "TS7803", "log.format", "none of"},
		{"no list", minimal + "tls: {names: a}\n", "", "TS7803", "tls.names", "no list"},
		{"a list of numbers", minimal + "tls: {names: [1]}\n", "", "TS7803", "tls.names", "element 1"},
		{"no name", minimal + "tls: {names: ['a b']}\n", "", "TS7803", "tls.names[0]", "neither"},
		{"no tls mode", minimal + "tls: {mode: maybe}\n", "", "TS7803", "tls.mode", "none of"},
		{"files without files", minimal + "tls: {mode: files}\n", "", "TS7803", "tls", "needs cert and key"},
		{"files that are not used", minimal + "tls: {cert: x, key: y}\n", "", "TS7803", "tls", "mode files"},
		{"acme for an address", "url: https://10.0.0.1\ntls: {mode: acme}\n", "", "TS7803", "url", "needs a name"},
		{"old tls", minimal + "tls: {min: '1.1'}\n", "", "TS7803", "tls.min", "neither"},
		{"a listen address without a port", minimal + "listen: localhost\n", "", "TS7803", "listen", ""},
		{"a metrics address without a port", minimal + "metrics: {listen: localhost}\n", "", "TS7803", "metrics.listen", ""},
		{"another database", minimal + "database: mysql://x\n", "", "TS7803", "database", "neither"},
		{"sqlite without a file", minimal + "database: 'sqlite:'\n", "", "TS7803", "database", "needs a file"},
		{"storage that is none", minimal + "storage: {kind: tape}\n", "", "TS7803", "storage.kind", "neither"},
		{"s3 without a bucket", minimal + "storage: {kind: s3, s3: {endpoint: 'https://h'}}\n", "", "TS7803", "storage.s3", "needed"},
		{"s3 without a scheme", minimal + "storage: {kind: s3, s3: {endpoint: h, bucket: b}}\n", "", "TS7803", "storage.s3.endpoint", ""},
		{"no proxy", minimal + "proxies: [everybody]\n", "", "TS7803", "proxies[0]", "neither"},
		{"a certificate to sign with alone", minimal + "workers: {sign_cert: x}\n", "", "TS7803", "workers.sign_cert", "needs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var environ []string
			if tt.env != "" {
				environ = []string{tt.env}
			}
			_, err := load(t, tt.file, environ)
			qt.Assert(t, qt.Equals(code.Of(err), tt.code), qt.Commentf("%v", err))
			qt.Check(t, qt.StringContains(err.Error(), tt.where))
			qt.Check(t, qt.StringContains(err.Error(), tt.why))
		})
	}
	_, err := config.Load(config.Sources{Dir: t.TempDir(), File: "/nowhere/server.yaml"})
	qt.Check(t, qt.Equals(code.Of(err), "TS7801"))
}

// TestEveryKeyCanBeSetEverywhere finds keys that one source can't reach.
func TestEveryKeyCanBeSetEverywhere(t *testing.T) {
	t.Parallel()
	c, err := load(t, minimal, nil)
	qt.Assert(t, qt.IsNil(err))
	values, err := c.Values()
	qt.Assert(t, qt.IsNil(err))
	var walk func(prefix string, m map[string]any)
	seen := 0
	walk = func(prefix string, m map[string]any) {
		for name, v := range m {
			key := strings.TrimPrefix(prefix+"."+name, ".")
			if group, ok := v.(map[string]any); ok {
				walk(key, group)
				continue
			}
			seen++
			env := config.EnvPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_")) + "=" + fmt.Sprint(v)
			if list, ok := v.([]string); ok {
				env = env[:strings.Index(env, "=")+1] + strings.Join(append(list, "x.example.org"), ",")
				if key == "proxies" || key == "webhooks.allow" {
					env = env[:strings.Index(env, "=")+1] + "10.0.0.0/8"
				}
			}
			switch key { // they come together
			case "oidc.roles":
				env = env[:strings.Index(env, "=")+1] + "ops=operator:web,db all=viewer"
			case "oidc.issuer":
				env += "https://id.example.org"
			case "oidc.client_id":
				env += "tsugi"
			case "mail.host":
				env += "mail.example.org"
			case "mail.from":
				env += "tsugi@example.org"
			}
			_, err := load(t, minimal+"mail: {host: h, from: a@b.example}\noidc: {issuer: 'https://id.example.org', client_id: t}\n", []string{env})
			qt.Check(t, qt.IsNil(err), qt.Commentf("%s", env))
		}
	}
	walk("", values)
	qt.Check(t, qt.IsTrue(seen > 30), qt.Commentf("%d keys", seen))
}

// TestYesAndNoCanBeTruths: as YAML and other programs write them.
func TestYesAndNoCanBeTruths(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"yes": "yes", "true": "yes", "'no'": "no", "false": "no"} {
		c, err := load(t, minimal+"webhooks: {plain: "+text+"}\n", nil)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(c.Webhooks.Plain, want), qt.Commentf("%s", text))
	}
	_, err := load(t, minimal+"log: {level: true}\n", nil)
	qt.Check(t, qt.ErrorMatches(err, "(?s).*true is no text.*"))
}

func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	c, err := load(t, minimal+"database: postgres://tsugi:hunter2@db/tsugi?sslpassword=hunter2\nstorage: {s3: {secret_key: hunter2}}\n", nil)
	qt.Assert(t, qt.IsNil(err))
	text, err := c.YAML()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Not(qt.StringContains(string(text), "hunter2")))
	qt.Check(t, qt.StringContains(string(text), "tsugi:xxxxx@db"))
	values, err := c.Values()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Not(qt.StringContains(fmt.Sprintf("%v %+v", values, c.Storage), "hunter2")))
}

// TestShownIsReadAgain holds that config's output is a file.
func TestShownIsReadAgain(t *testing.T) {
	t.Parallel()
	c, err := load(t, minimal+"tls: {names: [a]}\ngrace: 1m30s\n", nil)
	qt.Assert(t, qt.IsNil(err))
	text, err := c.YAML()
	qt.Assert(t, qt.IsNil(err))
	again, err := load(t, string(text), nil)
	qt.Assert(t, qt.IsNil(err))
	second, err := again.YAML()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(second), string(text)))
	qt.Check(t, qt.Equals(again.Grace, 90*time.Second))
}

func TestFirstFileIsOneThatLoads(t *testing.T) {
	t.Parallel()
	given := map[string]string{"url": "https://h:1", "listen": "127.0.0.1:2", "database": `postgres://a:b"c@d/e`}
	c, err := config.Parse("/srv", config.FileName, config.First(given, []string{"x.example.org", "10.0.0.1"}))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(c.URL, "https://h:1"))
	qt.Check(t, qt.Equals(c.Listen, "127.0.0.1:2"))
	qt.Check(t, qt.Equals(c.Database, given["database"]))
	qt.Check(t, qt.DeepEquals(c.TLS.Names, []string{"x.example.org", "10.0.0.1"}))
	// Whoever takes away the # of every commented key has a file that loads.
	var all strings.Builder
	for line := range strings.Lines(string(config.First(map[string]string{"url": "https://h:1"}, nil))) {
		if strings.HasPrefix(line, "#") && (!strings.HasPrefix(line, "# ") || strings.HasPrefix(line, "#  ")) {
			line = line[1:]
		}
		all.WriteString(line)
	}
	_, err = config.Parse("/srv", config.FileName, []byte(all.String()))
	qt.Check(t, qt.IsNil(err), qt.Commentf("%s", all.String()))
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add(config.First(map[string]string{"url": "https://h:1"}, []string{"a"}))
	f.Add([]byte("tls: {names: [1, {a: b}]}\n? [a]\n: b\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := config.Parse("/srv", config.FileName, b)
		if err != nil {
			if code.Of(err) == "" {
				t.Fatalf("an error without a code: %v", err)
			}
			return
		}
		if _, err := c.YAML(); err != nil {
			t.Fatal(err)
		}
	})
}
