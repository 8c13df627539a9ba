// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/tsugi-project/tsugi/internal/code"
)

// EnvPrefix starts the variables of the environment that are read.
const EnvPrefix = "TSUGI_SERVER_"

// Sources are where a configuration comes from.
type Sources struct {
	// Dir is the server's directory. FileName in it is read if it is there.
	Dir string
	// File, if not "", is read instead and has to be there.
	File    string
	Environ []string
	// Flags whose names are keys override everything when they are given.
	Flags *pflag.FlagSet
}

// Load reads a configuration and checks it.
func Load(s Sources) (*Config, error) {
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return nil, err
	}
	k := koanf.New(".")
	if err := k.Load(structs.Provider(Default(), "koanf"), nil); err != nil {
		return nil, fmt.Errorf("defaults: %w", err)
	}
	known := k.Keys()
	path := s.File
	if path == "" {
		path = filepath.Join(dir, FileName)
	}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.File == "":
	case err != nil:
		return nil, code.New("TS7801", path, "").With(err)
	default:
		if err := loadFile(k, known, path, text); err != nil {
			return nil, err
		}
	}
	if err := loadEnv(k, known, s.Environ); err != nil {
		return nil, err
	}
	if s.Flags != nil {
		given := posflag.ProviderWithFlag(s.Flags, ".", nil, func(f *pflag.Flag) (string, any) {
			key := strings.ReplaceAll(f.Name, "-", ".")
			if !f.Changed || !slices.Contains(known, key) {
				return "", nil
			}
			return key, posflag.FlagVal(s.Flags, f)
		})
		if err := k.Load(given, nil); err != nil {
			return nil, fmt.Errorf("flags: %w", err)
		}
	}
	c := &Config{dir: dir}
	if err := decode(k, c); err != nil {
		return nil, err
	}
	return c, c.check()
}

// Parse reads one file's text over the defaults, for init, which checks what
// it is about to write.
func Parse(dir, path string, text []byte) (*Config, error) {
	k := koanf.New(".")
	if err := k.Load(structs.Provider(Default(), "koanf"), nil); err != nil {
		return nil, fmt.Errorf("defaults: %w", err)
	}
	if err := loadFile(k, k.Keys(), path, text); err != nil {
		return nil, err
	}
	c := &Config{dir: dir}
	if err := decode(k, c); err != nil {
		return nil, err
	}
	return c, c.check()
}

func loadFile(k *koanf.Koanf, known []string, path string, text []byte) error {
	values, err := yaml.Parser().Unmarshal(text)
	if err != nil {
		return code.New("TS7801", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	file := koanf.New(".")
	if err := file.Load(raw(values), nil); err != nil {
		return code.New("TS7801", path, err.Error())
	}
	for _, key := range file.Keys() {
		if isGroup(key, known) && file.Get(key) == nil {
			file.Delete(key) // everything in it is a comment
			continue
		}
		if !slices.Contains(known, key) {
			return unknown(path+": "+key, key, known)
		}
	}
	return k.Merge(file)
}

// raw is a koanf provider of values that are already there.
type raw map[string]any

func (r raw) ReadBytes() ([]byte, error)    { return nil, errors.ErrUnsupported }
func (r raw) Read() (map[string]any, error) { return r, nil }

func loadEnv(k *koanf.Koanf, known, environ []string) error {
	keys := map[string]string{}
	for _, key := range known {
		keys[EnvPrefix+strings.ToUpper(strings.ReplaceAll(key, ".", "_"))] = key
	}
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, EnvPrefix) && keys[name] == "" && name != EnvPrefix+"DIR" {
			return unknown(name, strings.ToLower(strings.TrimPrefix(name, EnvPrefix)), known)
		}
	}
	return k.Load(env.Provider(".", env.Opt{
		Prefix:      EnvPrefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			key := keys[name]
			if key == "tls.names" || key == "proxies" || key == "webhooks.allow" || key == "oidc.scopes" {
				return key, strings.Split(value, ",")
			}
			if key == "oidc.roles" { // groups have commas between them
				return key, strings.Split(value, " ")
			}
			return key, value
		},
	}), nil)
}

func isGroup(key string, known []string) bool {
	return slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(k, key+".") })
}

// unknown is the problem of a key that nothing reads, with what is near it.
func unknown(where, key string, known []string) *code.Problem {
	why := "there is no such key"
	flat := strings.NewReplacer("_", ".")
	best, least := "", 4
	if isGroup(key, known) {
		return code.New("TS7802", where, "it is a group: give the keys below it")
	}
	for _, k := range known {
		if strings.HasPrefix(key, k+".") {
			return code.New("TS7802", where, k+" is a value and no group")
		}
		if d := distance(flat.Replace(k), flat.Replace(key)); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		why += "; did you mean " + best + "?"
	}
	return code.New("TS7802", where, why)
}

// distance is the number of letters between two words (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// decode turns every value into the kind that its default has, so that what
// does not fit is told by its key, and fills in the configuration.
func decode(k *koanf.Koanf, c *Config) error {
	defaults := koanf.New(".")
	if err := defaults.Load(structs.Provider(Default(), "koanf"), nil); err != nil {
		return fmt.Errorf("defaults: %w", err)
	}
	for _, key := range k.Keys() {
		v, err := convert(k.Get(key), defaults.Get(key))
		if err != nil {
			return code.New("TS7803", key, err.Error())
		}
		if err := k.Set(key, v); err != nil {
			return err
		}
	}
	return k.Unmarshal("", c)
}

// convert makes v what like is. Text is read as numbers and durations, for the
// environment has nothing else.
func convert(v, like any) (any, error) {
	text, isText := v.(string)
	if s, ok := v.(Secret); ok {
		text, isText = string(s), true
	}
	switch like.(type) {
	case time.Duration:
		if d, ok := v.(time.Duration); ok {
			return d, nil
		}
		if d, err := parseDuration(text); isText && err == nil {
			return d, nil
		}
		return nil, fmt.Errorf("%v is no duration such as 30s, 5m or 90d", v)
	case int:
		if n, ok := v.(int); ok {
			return n, nil
		}
		if n, err := strconv.Atoi(text); isText && err == nil {
			return n, nil
		}
		return nil, fmt.Errorf("%v is no whole number", v)
	case []string:
		return convertList(v)
	}
	switch {
	case v == nil: // "key:" with nothing behind it
		return "", nil
	case isText:
		return text, nil
	}
	if b, ok := v.(bool); ok && (like == "yes" || like == "no") { // as other programs write it
		return map[bool]string{true: "yes", false: "no"}[b], nil
	}
	return nil, fmt.Errorf("%v is no text; put it in quotes", v)
}

// parseDuration knows days, too.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * day, err
	}
	return time.ParseDuration(s)
}

func convertList(v any) (any, error) {
	switch v := v.(type) {
	case []string:
		return v, nil
	case nil:
		return []string{}, nil
	case []any:
		list := make([]string, len(v))
		for i, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, fmt.Errorf("element %d, %v, is no text", i+1, e)
			}
			list[i] = s
		}
		return list, nil
	}
	return nil, fmt.Errorf("%v is no list", v)
}
