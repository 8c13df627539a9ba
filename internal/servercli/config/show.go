// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"
)

// values is a configuration as keys and values that may be shown: no secrets,
// durations as people write them.
func (c *Config) values() (*koanf.Koanf, error) {
	k := koanf.New(".")
	if err := k.Load(structs.Provider(*c, "koanf"), nil); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	for key, v := range k.All() {
		var shown any
		switch v := v.(type) {
		case time.Duration:
			shown = v.String()
		case Secret:
			if shown = ""; v != "" {
				shown = v.String()
			}
		default:
			continue
		}
		if err := k.Set(key, shown); err != nil {
			return nil, err
		}
	}
	return k, k.Set("database", withoutPassword(c.Database))
}

// withoutPassword takes the password out of a DSN.
func withoutPassword(dsn string) string {
	if strings.HasPrefix(dsn, "sqlite:") {
		return dsn
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "[redacted]"
	}
	q := u.Query()
	for name := range q {
		if strings.Contains(strings.ToLower(name), "pass") {
			q.Set(name, "xxxxx")
		}
	}
	u.RawQuery = q.Encode()
	return u.Redacted()
}

// Values is a configuration for JSON.
func (c *Config) Values() (map[string]any, error) {
	k, err := c.values()
	if err != nil {
		return nil, err
	}
	return k.Raw(), nil
}

// YAML is a configuration as a file would say it.
func (c *Config) YAML() ([]byte, error) {
	k, err := c.values()
	if err != nil {
		return nil, err
	}
	return k.Marshal(yaml.Parser())
}

// Defaults are all keys and their defaults as people write them.
func Defaults() map[string]string {
	c := Default()
	k, err := c.values()
	if err != nil {
		panic(err) // nothing of it comes from outside
	}
	all := map[string]string{}
	for key, v := range k.All() {
		all[key] = short(v)
	}
	return all
}

// short is a value without what nobody would write: 5m for 5m0s.
func short(v any) string {
	s := fmt.Sprint(v)
	if list, ok := v.([]string); ok {
		s = strings.Join(list, ", ")
	}
	if d, err := time.ParseDuration(s); err == nil && s != "0" {
		if d%day == 0 {
			return fmt.Sprintf("%dd", d/day)
		}
		s = d.String()
		if strings.HasSuffix(s, "m0s") {
			s = strings.TrimSuffix(s, "0s")
		}
		if strings.HasSuffix(s, "h0m") {
			s = strings.TrimSuffix(s, "0m")
		}
	}
	return s
}
