// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tsugi-project/tsugi/internal/code"
)

// maxConfig bounds the bytes of a configuration file.
const maxConfig = 1 << 20

// Config is /etc/tsugi/agent.yaml. A file that is not there is an empty one;
// a key that is not here is an error.
type Config struct {
	// Proxy is the URL of a proxy for all that the agent fetches: http, https
	// or socks5. "" follows HTTPS_PROXY and NO_PROXY; "direct" uses none.
	Proxy string `yaml:"proxy,omitempty" json:"proxy"`
	// CAFile holds more certificates (PEM) that may vouch for the server, such
	// as that of a proxy that opens TLS.
	CAFile string `yaml:"ca_file,omitempty" json:"ca_file"`
	// Windows are the times when a live patch may be applied or replaced; none
	// means any time. Recalls and reverts do not wait.
	Windows  []Window `yaml:"windows,omitempty" json:"windows"`
	Timezone string   `yaml:"timezone,omitempty" json:"timezone"` // of Windows: "Europe/Berlin", "UTC"; "" is the machine's own

	Transition TransitionConfig `yaml:"transition,omitempty" json:"transition"`
	Health     HealthConfig     `yaml:"health,omitempty" json:"health"`
	Modules    ModulesConfig    `yaml:"modules,omitempty" json:"modules"`
	Processes  ProcessesConfig  `yaml:"processes,omitempty" json:"processes"`
	LogLevel   string           `yaml:"log_level,omitempty" json:"log_level"` // debug, info, warn, error
}

// TransitionConfig says how long the kernel may take.
type TransitionConfig struct {
	// Limit is when a transition that tasks hold up is reversed.
	Limit Duration `yaml:"limit,omitempty" json:"limit"`
	// Retry is the time until the next try after that; it doubles with each
	// further one, up to 6 hours.
	Retry Duration `yaml:"retry,omitempty" json:"retry"`
}

// HealthConfig says what must hold before a live patch counts as healthy.
type HealthConfig struct {
	// Watch is how long the kernel log is watched for oopses and warnings.
	Watch Duration `yaml:"watch,omitempty" json:"watch"`
	// Command is run at the end of the watch: the path of a program and its
	// arguments. If it does not exit with 0, the live patch is taken out.
	Command []string `yaml:"command,omitempty" json:"command"`
	// Timeout of Command.
	Timeout Duration `yaml:"timeout,omitempty" json:"timeout"`
}

// ModulesConfig is about the fixed modules that a live patch brings for
// machines that have not loaded them.
type ModulesConfig struct {
	// Off keeps them out of /lib/modules.
	Off bool `yaml:"off,omitempty" json:"off"`
	// SwapUnused lets a module that is loaded and not in use be replaced by its
	// fixed build, also where the server's policy does not say so.
	SwapUnused bool `yaml:"swap_unused,omitempty" json:"swap_unused"`
}

// ProcessesConfig is about live patches of libraries and programs.
type ProcessesConfig struct {
	// Off leaves them alone: none is applied or taken out by the agent.
	Off bool `yaml:"off,omitempty" json:"off"`
}

// Duration is "90s", "5m", "1h30m".
type Duration time.Duration

func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// DefaultConfig is what holds without a file.
func DefaultConfig() Config {
	return Config{
		Transition: TransitionConfig{Limit: Duration(2 * time.Minute), Retry: Duration(5 * time.Minute)},
		Health:     HealthConfig{Watch: Duration(time.Minute), Timeout: Duration(30 * time.Second)},
		LogLevel:   "info",
	}
}

// LoadConfig reads a configuration file.
func LoadConfig(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultConfig(), nil
	}
	if err != nil {
		return Config{}, code.New("TS9401", path, "").With(err)
	}
	c, err := ParseConfig(b)
	if p, ok := errors.AsType[*code.Problem](err); ok {
		p.Where = strings.TrimSuffix(path+": "+p.Where, ": ")
	}
	return c, err
}

// ParseConfig reads a configuration over the defaults.
func ParseConfig(b []byte) (Config, error) {
	c := DefaultConfig()
	if len(b) > maxConfig {
		return Config{}, code.New("TS9401", "", fmt.Sprintf("%d bytes, more than %d", len(b), maxConfig))
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return Config{}, badConfig("", 0, "not YAML: "+firstLine(err))
	}
	if len(doc.Content) == 0 {
		return c, nil
	}
	top := doc.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return c, nil
	}
	if err := known(top, reflect.TypeFor[Config](), ""); err != nil {
		return Config{}, err
	}
	if err := top.Decode(&c); err != nil {
		return Config{}, badConfig("", 0, firstLine(err))
	}
	return c, c.check()
}

// known refuses keys that a struct does not have, with their path, and names
// the place of a value that does not fit.
func known(n *yaml.Node, t reflect.Type, path string) error {
	if n.Kind == yaml.AliasNode {
		return badConfig(path, n.Line, "anchors and aliases are not needed here")
	}
	if _, ok := reflect.New(t).Interface().(interface{ UnmarshalText([]byte) error }); ok || t.Kind() == reflect.String {
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			return badConfig(path, n.Line, "a text is expected")
		}
		if err := n.Decode(reflect.New(t).Interface()); err != nil {
			return badConfig(path, n.Line, firstLine(err))
		}
		return nil
	}
	switch t.Kind() {
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			return badConfig(path, n.Line, "a list is expected")
		}
		for i, e := range n.Content {
			if err := known(e, t.Elem(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case reflect.Struct:
		if n.Kind != yaml.MappingNode {
			return badConfig(path, n.Line, "keys with values are expected")
		}
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			at := strings.TrimPrefix(path+"."+key, ".")
			f, ok := field(t, key)
			if !ok {
				return badConfig(at, n.Content[i].Line, "no such key")
			}
			if seen[key] {
				return badConfig(at, n.Content[i].Line, "the key is there twice")
			}
			seen[key] = true
			if err := known(n.Content[i+1], f, at); err != nil {
				return err
			}
		}
	}
	return nil
}

func field(t reflect.Type, key string) (reflect.Type, bool) {
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ","); name == key {
			return t.Field(i).Type, true
		}
	}
	return nil, false
}

func (c *Config) check() error {
	for _, d := range []struct {
		key  string
		v    Duration
		low  time.Duration
		high time.Duration
	}{
		{"transition.limit", c.Transition.Limit, time.Second, time.Hour},
		{"transition.retry", c.Transition.Retry, time.Second, 24 * time.Hour},
		{"health.watch", c.Health.Watch, 0, 24 * time.Hour},
		{"health.timeout", c.Health.Timeout, time.Second, time.Hour},
	} {
		if v := time.Duration(d.v); v < d.low || v > d.high {
			return badConfig(d.key, 0, fmt.Sprintf("%s is not between %s and %s", d.v, Duration(d.low), Duration(d.high)))
		}
	}
	if _, err := c.location(); err != nil {
		return badConfig("timezone", 0, err.Error()+" (the names are those of the package tzdata)")
	}
	if len(c.Health.Command) > 0 && !filepath.IsAbs(c.Health.Command[0]) {
		return badConfig("health.command[0]", 0, "the path of the program must begin with /")
	}
	if c.CAFile != "" && !filepath.IsAbs(c.CAFile) {
		return badConfig("ca_file", 0, "the path must begin with /")
	}
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		return badConfig("log_level", 0, fmt.Sprintf("%q is not debug, info, warn or error", c.LogLevel))
	}
	if c.Proxy != "" && c.Proxy != "direct" {
		u, err := url.Parse(c.Proxy)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" {
			return badConfig("proxy", 0, "not a URL such as http://proxy.example:3128")
		}
	}
	return nil
}

func (c *Config) location() (*time.Location, error) {
	if c.Timezone == "" {
		return time.Local, nil
	}
	return time.LoadLocation(c.Timezone)
}

func badConfig(path string, line int, why string) *code.Problem {
	if line > 0 {
		path = strings.TrimPrefix(fmt.Sprintf("%s (line %d)", path, line), " ")
	}
	return code.New("TS9401", path, why)
}

func firstLine(err error) string {
	s := strings.TrimPrefix(err.Error(), "yaml: ")
	if head, rest, ok := strings.Cut(s, ":\n  "); ok && strings.HasPrefix(head, "unmarshal errors") {
		s = rest
	}
	s, _, _ = strings.Cut(s, "\n")
	return s
}
