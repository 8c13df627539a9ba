// SPDX-License-Identifier: Apache-2.0

// Package config is the configuration of tsugi-server: what it is made of,
// its defaults, and where it comes from, each source overriding the one
// before: defaults, the YAML file, the environment (TSUGI_SERVER_TLS_MODE is
// tls.mode), flags. A key that nothing reads is an error with its path and not
// a setting that silently does nothing.
package config

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// FileName is the configuration file of a server's directory.
const FileName = "server.yaml"

// Config is the whole configuration. Paths that are relative belong to the
// server's directory; Resolve makes them absolute.
type Config struct {
	// URL is how machines and operators reach the service: the balancer's when
	// there is one.
	URL string `koanf:"url"`
	// Listen is the address of this process. "" takes the port of URL on all
	// addresses.
	Listen string `koanf:"listen"`
	// Database is a DSN: sqlite:FILE, or postgres://….
	Database string   `koanf:"database"`
	Storage  Storage  `koanf:"storage"`
	TLS      TLS      `koanf:"tls"`
	Keys     Keys     `koanf:"keys"`
	Workers  Workers  `koanf:"workers"`
	Metrics  Metrics  `koanf:"metrics"`
	Log      Log      `koanf:"log"`
	Mail     Mail     `koanf:"mail"`
	Webhooks Webhooks `koanf:"webhooks"`
	SignIn   SignIn   `koanf:"sign_in"`
	OIDC     OIDC     `koanf:"oidc"`
	// Proxies are the addresses, or networks, of balancers whose
	// X-Forwarded-For is believed.
	Proxies []string `koanf:"proxies"`
	// Interval is how often machines check in, until the setting
	// machines.interval says otherwise.
	Interval time.Duration `koanf:"interval"`
	// Grace is how long a stopping server waits for requests and jobs under way.
	Grace time.Duration `koanf:"grace"`

	dir string
}

// Storage says where files are kept.
type Storage struct {
	Kind   string `koanf:"kind"`   // folder or s3
	Folder string `koanf:"folder"` // of kind folder
	S3     S3     `koanf:"s3"`
}

// S3 is a bucket of an S3-compatible service.
type S3 struct {
	Endpoint  string `koanf:"endpoint"` // https://s3.example.com
	Bucket    string `koanf:"bucket"`
	Prefix    string `koanf:"prefix"`
	Region    string `koanf:"region"`
	AccessKey string `koanf:"access_key"`
	SecretKey Secret `koanf:"secret_key"`
	// SecretKeyFile is read when SecretKey is empty.
	SecretKeyFile string `koanf:"secret_key_file"`
}

// TLS says which certificate the server shows.
type TLS struct {
	// Mode is own (a certificate authority of the service's own), files, acme, or off:
	// plain HTTP, for a balancer on a trusted network that ends TLS.
	Mode string `koanf:"mode"`
	// Dir holds the authority of mode own.
	Dir string `koanf:"dir"`
	// Names are names and addresses in the certificate beside the URL's host
	// (modes own and acme).
	Names []string `koanf:"names"`
	Cert  string   `koanf:"cert"` // PEM chain of mode files, leaf first
	Key   string   `koanf:"key"`
	ACME  ACME     `koanf:"acme"`
	Min   string   `koanf:"min"` // 1.2 or 1.3
}

// ACME is a certificate authority that speaks RFC 8555.
type ACME struct {
	Directory string `koanf:"directory"` // "" is Let's Encrypt
	Email     string `koanf:"email"`
	Dir       string `koanf:"dir"`       // accounts and certificates
	HTTPPort  int    `koanf:"http_port"` // of the HTTP challenge; 0: only TLS-ALPN is tried
	CA        string `koanf:"ca"`        // PEM of the directory's own authority, for a private one
}

// Keys says where the online keys are, and for how long what they sign is good.
type Keys struct {
	Dir       string    `koanf:"dir"`
	Lifetimes Lifetimes `koanf:"lifetimes"`
}

// Lifetimes are those of signatures: each is renewed when a third is left.
type Lifetimes struct {
	Root      time.Duration `koanf:"root"` // of the first root, which init makes
	Targets   time.Duration `koanf:"targets"`
	Tier      time.Duration `koanf:"tier"`
	Snapshot  time.Duration `koanf:"snapshot"`
	Timestamp time.Duration `koanf:"timestamp"` // for so long a machine without news goes by what it has
	Resign    time.Duration `koanf:"resign"`    // a timestamp is made anew at this age
}

// Workers are the build workers inside the server.
type Workers struct {
	Count int    `koanf:"count"` // 0: builds are left to tsugi-server worker elsewhere
	Jobs  int    `koanf:"jobs"`  // compilers at a time of each; 0: one per processor
	Home  string `koanf:"home"`  // kernels, sources and compiled objects
	// Lease is how long any worker, here or elsewhere, may be silent before its
	// job is given to another.
	Lease time.Duration `koanf:"lease"`
	// Attempts is how often a job is begun whose workers die.
	Attempts int `koanf:"attempts"`
	// SignKey is a PEM file with the key that kernel modules are signed with,
	// and perhaps its certificate; SignCert holds the certificate otherwise.
	SignKey  string `koanf:"sign_key"`
	SignCert string `koanf:"sign_cert"`
}

// Metrics says where /metrics is.
type Metrics struct {
	// Listen is an address of its own for /metrics, plain HTTP; "" serves it
	// beside the API, to whoever reaches that.
	Listen string `koanf:"listen"`
}

// Log says what is written to standard error.
type Log struct {
	Level  string `koanf:"level"`  // debug, info, warn, error
	Format string `koanf:"format"` // auto, json, text
}

// Secret is text that is shown to nobody.
type Secret string

// String hides it.
func (Secret) String() string { return "[redacted]" }

// LogValue hides it.
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// MarshalText hides it where a configuration is shown.
func (s Secret) MarshalText() ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	return []byte("[redacted]"), nil
}

const day = 24 * time.Hour

// Default is the configuration of a fresh server.
func Default() Config {
	return Config{
		Database: "sqlite:tsugi.db",
		Storage:  Storage{Kind: "folder", Folder: "blobs", S3: S3{Region: "us-east-1"}},
		TLS:      TLS{Mode: "own", Dir: "ca", Min: "1.2", Names: []string{}, ACME: ACME{Dir: "acme"}},
		Keys: Keys{Dir: "keys", Lifetimes: Lifetimes{
			Root: 730 * day, Targets: 90 * day, Tier: 90 * day, Snapshot: 7 * day, Timestamp: day, Resign: time.Hour,
		}},
		Workers:  Workers{Count: 1, Home: "worker", Lease: time.Minute, Attempts: 3},
		Log:      Log{Level: "info", Format: "auto"},
		Interval: time.Hour,
		Grace:    30 * time.Second,
		Proxies:  []string{},
		Mail:     Mail{Security: "starttls"},
		Webhooks: Webhooks{Allow: []string{}, Plain: "no"},
		SignIn:   SignIn{Idle: 12 * time.Hour, Life: 7 * day, Fresh: 10 * time.Minute, Link: 3 * day, Failures: 20, Every: 6 * time.Second},
		OIDC:     OIDC{ID: "oidc", Claim: "groups", Scopes: []string{}, Roles: []string{}, Create: "no"},
	}
}

// Dir is the server's directory, absolute.
func (c *Config) Dir() string { return c.dir }

// Path is a path of the configuration, absolute.
func (c *Config) Path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.dir, p)
}

// SignKeys are the files of the key that signs kernel modules.
func (w Workers) SignKeys() []string {
	return slices.DeleteFunc([]string{w.SignKey, w.SignCert}, func(s string) bool { return s == "" })
}

// DSN is the database with its path absolute.
func (c *Config) DSN() string {
	if file, ok := strings.CutPrefix(c.Database, "sqlite:"); ok {
		return "sqlite:" + c.Path(file)
	}
	return c.Database
}

// SQLite reports whether the database is a file of this machine.
func (c *Config) SQLite() bool { return strings.HasPrefix(c.Database, "sqlite:") }

// Host is the host of the URL.
func (c *Config) Host() string {
	u, err := url.Parse(c.URL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// Address is what the server listens on.
func (c *Config) Address() string {
	if c.Listen != "" {
		return c.Listen
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return ":8443"
	}
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	return ":" + port
}

// S3Secret is the secret key, from the file if one is named.
func (c *Config) S3Secret() (string, error) {
	if c.Storage.S3.SecretKey != "" || c.Storage.S3.SecretKeyFile == "" {
		return string(c.Storage.S3.SecretKey), nil
	}
	path := c.Path(c.Storage.S3.SecretKeyFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return "", code.New("TS7803", "storage.s3.secret_key_file", "").With(err)
	}
	return strings.TrimSpace(string(b)), nil
}

// check finds values that no server can run with.
func (c *Config) check() error {
	bad := func(key, format string, args ...any) error {
		return code.New("TS7803", key, fmt.Sprintf(format, args...))
	}
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		return bad("url", "it is empty; machines need to know where the server is, as https://HOST:PORT")
	case err != nil || u.Host == "" || u.Hostname() == "":
		return bad("url", "%q is not of the form https://HOST:PORT", c.URL)
	case u.Scheme != "https" && u.Scheme != "http":
		return bad("url", "%q is neither https nor http", c.URL)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil || u.Fragment != "":
		return bad("url", "%q has more than a host and a port", c.URL)
	case u.Scheme == "http" && c.TLS.Mode != "off":
		return bad("url", "%q is plain http and tls.mode is %s", c.URL, c.TLS.Mode)
	}
	c.URL = strings.TrimSuffix(c.URL, "/")
	if _, _, err := net.SplitHostPort(c.Address()); err != nil {
		return bad("listen", "%q is not of the form [ADDRESS]:PORT", c.Listen)
	}
	if c.Metrics.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Metrics.Listen); err != nil {
			return bad("metrics.listen", "%q is not of the form [ADDRESS]:PORT", c.Metrics.Listen)
		}
	}
	if !c.SQLite() && !strings.HasPrefix(c.Database, "postgres://") && !strings.HasPrefix(c.Database, "postgresql://") {
		return bad("database", "it is neither sqlite:FILE nor postgres://…")
	}
	if c.SQLite() && strings.TrimPrefix(c.Database, "sqlite:") == "" {
		return bad("database", "sqlite: needs a file")
	}
	if err := c.checkStorage(bad); err != nil {
		return err
	}
	if err := c.checkTLS(bad); err != nil {
		return err
	}
	if err := c.checkNotifications(bad); err != nil {
		return err
	}
	if err := c.checkPeople(bad); err != nil {
		return err
	}
	return c.checkRest(bad)
}

func (l Lifetimes) good() bool {
	for _, d := range []time.Duration{l.Root, l.Targets, l.Tier, l.Snapshot, l.Timestamp} {
		if d < time.Minute || d > 20*365*day {
			return false
		}
	}
	return l.Resign > 0 && l.Resign < l.Timestamp
}

type complain func(key, format string, args ...any) error

func (c *Config) checkStorage(bad complain) error {
	switch s := c.Storage; {
	case s.Kind == "folder" && s.Folder == "":
		return bad("storage.folder", "it is empty")
	case s.Kind == "s3" && (s.S3.Endpoint == "" || s.S3.Bucket == ""):
		return bad("storage.s3", "endpoint and bucket are needed")
	case s.Kind != "folder" && s.Kind != "s3":
		return bad("storage.kind", "%q is neither folder nor s3", s.Kind)
	}
	if c.Storage.Kind == "s3" {
		if u, err := url.Parse(c.Storage.S3.Endpoint); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return bad("storage.s3.endpoint", "%q is not of the form https://HOST[:PORT]", c.Storage.S3.Endpoint)
		}
	}
	return nil
}

func (c *Config) checkTLS(bad complain) error {
	switch t := c.TLS; {
	case t.Mode != "own" && t.Mode != "files" && t.Mode != "acme" && t.Mode != "off":
		return bad("tls.mode", "%q is none of own, files, acme, off", t.Mode)
	case t.Mode == "files" && (t.Cert == "" || t.Key == ""):
		return bad("tls", "mode files needs cert and key")
	case t.Mode != "files" && (t.Cert != "" || t.Key != ""):
		return bad("tls", "cert and key are for mode files, and the mode is %s", t.Mode)
	case t.Mode == "acme" && net.ParseIP(c.Host()) != nil:
		return bad("url", "mode acme needs a name and %s is an address", c.Host())
	case t.Min != "1.2" && t.Min != "1.3":
		return bad("tls.min", "%q is neither 1.2 nor 1.3", t.Min)
	case t.ACME.HTTPPort < 0 || t.ACME.HTTPPort > 65535:
		return bad("tls.acme.http_port", "%d is no port", t.ACME.HTTPPort)
	}
	for i, n := range c.TLS.Names {
		if _, err := netip.ParseAddr(n); err != nil && (n == "" || strings.ContainsAny(n, "/: \t")) {
			return bad(fmt.Sprintf("tls.names[%d]", i), "%q is neither a name nor an address", n)
		}
	}
	return nil
}

// TrustedProxies are Proxies, parsed.
func (c *Config) TrustedProxies() ([]netip.Prefix, error) { return networks(c.Proxies, "proxies") }

// networks reads addresses and networks.
func networks(list []string, key string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for i, p := range list {
		prefix, err := netip.ParsePrefix(p)
		if addr, addrErr := netip.ParseAddr(p); addrErr == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return nil, code.New("TS7803", fmt.Sprintf("%s[%d]", key, i), fmt.Sprintf("%q is neither an address nor a network", p))
		}
		all = append(all, prefix)
	}
	return all, nil
}

func (c *Config) checkRest(bad complain) error {
	if _, err := c.TrustedProxies(); err != nil {
		return err
	}
	var level slog.Level
	switch {
	case c.Workers.Count < 0 || c.Workers.Count > 64:
		return bad("workers.count", "%d is not from 0 to 64", c.Workers.Count)
	case c.Workers.SignKey == "" && c.Workers.SignCert != "":
		return bad("workers.sign_cert", "it needs workers.sign_key")
	case c.Workers.Lease < time.Second || c.Workers.Lease > time.Hour:
		return bad("workers.lease", "%s is not from 1s to 1h", c.Workers.Lease)
	case c.Workers.Attempts < 1 || c.Workers.Attempts > 100:
		return bad("workers.attempts", "%d is not from 1 to 100", c.Workers.Attempts)
	case c.Workers.Jobs < 0:
		return bad("workers.jobs", "%d is less than 0", c.Workers.Jobs)
	case level.UnmarshalText([]byte(c.Log.Level)) != nil:
		return bad("log.level", "%q is none of debug, info, warn, error", c.Log.Level)
	case c.Log.Format != "auto" && c.Log.Format != "json" && c.Log.Format != "text":
		return bad("log.format", "%q is none of auto, json, text", c.Log.Format)
	case !c.Keys.Lifetimes.good():
		return bad("keys.lifetimes", "each is at least a minute and at most 20 years, and resign is below timestamp")
	case c.Interval < 10*time.Second || c.Interval > 24*time.Hour:
		return bad("interval", "%s is not from 10s to 24h", c.Interval)
	case c.Grace < 0 || c.Grace > time.Hour:
		return bad("grace", "%s is not from 0s to 1h", c.Grace)
	}
	return nil
}
