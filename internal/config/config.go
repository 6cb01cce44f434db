// Package config fills a configuration struct from a TOML file, environment
// variables and command-line flags, and reports every mistake at once, by key.
//
// The struct is composed of the Config structs of other packages; this package knows no setting by
// name. The tags of a field describe it: toml (its key), env (its variable, if it is not derived
// from the key), help, secret. A field without a key is not a setting. A slice of structs is a list
// of tables, [[key]], which only a file can have.
package config

import (
	"encoding"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Checker is implemented by Config structs that check their values.
type Checker interface {
	// Check calls report for each impossible value with its own key.
	Check(report func(key, problem string))
}

// Defaulter is implemented by elements of lists whose defaults are not zero.
type Defaulter interface{ SetDefaults() }

// Setting is one key of the configuration.
type Setting struct {
	Key    string // "storage.connection_pool.pool_size"
	Env    string // "AKIGW_STORAGE_CONNECTION_POOL_POOL_SIZE"; "" for a setting of a list
	Help   string
	Secret bool
	Value  reflect.Value // settable
}

// Source is where values come from, weakest first: the defaults already in
// the struct, File, Env, Flags.
type Source struct {
	File  string            // path of a TOML file, may be empty
	Env   []string          // as from os.Environ
	Flags map[string]string // by key
	// Elsewhere are tables of the file that are read by another package.
	Elsewhere []string
	// Origins, if not nil, receives the origin of each value that is not a default, by key.
	Origins map[string]string
}

// Text returns the value as it is written in an environment variable.
func (s *Setting) Text() string {
	if m, ok := s.Value.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err == nil {
			return string(text)
		}
	}
	return fmt.Sprint(s.Value.Interface())
}

// TOML returns the value as it is written in a file.
func (s *Setting) TOML() string {
	_, textual := s.Value.Interface().(encoding.TextMarshaler)
	if textual || s.Value.Kind() == reflect.String {
		return strconv.Quote(s.Text())
	}
	return s.Text()
}

// Mistakes are all mistakes, one line each.
type Mistakes []string

// Error implements error.
func (m Mistakes) Error() string {
	return "the configuration has mistakes:\n  " + strings.Join(m, "\n  ")
}

// Settings lists the settings of a struct pointer in order of declaration.
func Settings(target any) []Setting {
	var all []Setting
	walk(reflect.ValueOf(target).Elem(), "", func(s Setting) { all = append(all, s) }, nil)
	return all
}

// walk visits fields; the fields of a struct without a toml tag count as fields of the struct
// around it.
func walk(v reflect.Value, prefix string, leaf func(Setting), table func(prefix string, c Checker)) {
	if c, ok := v.Addr().Interface().(Checker); ok && table != nil {
		table(prefix, c)
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		key := f.Tag.Get("toml")
		switch {
		case f.Type.Kind() == reflect.Struct:
			if key != "" {
				key += "."
			}
			walk(v.Field(i), prefix+key, leaf, table)
			continue
		case isList(f.Type):
			for n := range v.Field(i).Len() {
				walk(v.Field(i).Index(n), element(prefix+key, n), leaf, table)
			}
			continue
		case key == "":
			continue
		}
		s := Setting{Key: prefix + key, Env: f.Tag.Get("env"), Help: f.Tag.Get("help"), Secret: f.Tag.Get("secret") == "true", Value: v.Field(i)}
		if strings.Contains(prefix, "[") {
			s.Env = ""
		} else if s.Env == "" {
			s.Env = variable(s.Key)
		}
		if leaf != nil {
			leaf(s)
		}
	}
}

func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct
}

// element returns the key prefix of the n-th table of a list, counted from 1.
func element(key string, n int) string { return fmt.Sprintf("%s[%d].", key, n+1) }

// lists returns the lists at the top level of a struct.
func lists(v reflect.Value) map[string]reflect.Value {
	found := map[string]reflect.Value{}
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && isList(f.Type) {
			found[f.Tag.Get("toml")] = v.Field(i)
		}
	}
	return found
}

// variable returns the environment variable of a key.
func variable(key string) string {
	return "AKIGW_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// Load fills target, a pointer to a struct that holds the defaults. The error
// is Mistakes, or says why the file cannot be read at all.
func Load(target any, from Source) error {
	l := loader{settings: map[string]Setting{}, lists: lists(reflect.ValueOf(target).Elem()), elsewhere: from.Elsewhere, origins: from.Origins}
	for _, s := range Settings(target) {
		l.settings[s.Key] = s
	}
	if from.File != "" {
		if err := l.file(from.File); err != nil {
			return err
		}
	}
	env := map[string]string{}
	for _, pair := range from.Env {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	for _, s := range Settings(target) {
		if value, ok := env[s.Env]; ok && value != "" {
			l.text(s, s.Env, value)
			l.origin(s, s.Env+" in the environment")
		}
		if value, ok := from.Flags[s.Key]; ok {
			flag := "--" + strings.ReplaceAll(s.Key, "_", "-")
			l.text(s, flag, value)
			l.origin(s, flag)
		}
	}
	walk(reflect.ValueOf(target).Elem(), "", nil, func(prefix string, c Checker) {
		c.Check(func(key, problem string) {
			s := l.settings[prefix+key]
			where := ""
			if s.Env != "" {
				where = " (" + s.Env + ")"
			}
			l.mistake("%s: %s%s", prefix+key, problem, where)
		})
	})
	if len(l.mistakes) > 0 {
		return l.mistakes
	}
	return nil
}

type loader struct {
	settings  map[string]Setting
	lists     map[string]reflect.Value
	elsewhere []string
	origins   map[string]string
	path      string // of the file
	mistakes  Mistakes
}

// origin records the origin of a value.
func (l *loader) origin(s Setting, from string) {
	if l.origins != nil {
		l.origins[s.Key] = from
	}
}

func (l *loader) mistake(format string, args ...any) {
	l.mistakes = append(l.mistakes, fmt.Sprintf(format, args...))
}

func (l *loader) file(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	var tree map[string]any
	if err := toml.Unmarshal(raw, &tree); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, column := at.Position()
			return fmt.Errorf("configuration file %s, line %d, column %d: %w", path, row, column, err)
		}
		return fmt.Errorf("configuration file %s: %w", path, err)
	}
	l.path = path
	l.tree("", tree)
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 && l.secretIn("", tree) {
		l.mistake("%s: holds a secret and can be read by others; run: chmod 600 %s", path, path)
	}
	return nil
}

func (l *loader) secretIn(prefix string, tree map[string]any) bool {
	for name, v := range tree {
		if sub, ok := v.(map[string]any); ok && l.secretIn(prefix+name+".", sub) || l.settings[prefix+name].Secret && v != "" {
			return true
		}
		for n, item := range tables(v) {
			if l.secretIn(element(prefix+name, n), item) {
				return true
			}
		}
	}
	return false
}

// tables returns the tables of a list, nil if v is not a list of tables.
func tables(v any) []map[string]any {
	items, ok := v.([]any)
	if !ok {
		return nil
	}
	all := make([]map[string]any, 0, len(items))
	for _, item := range items {
		table, ok := item.(map[string]any)
		if !ok {
			return nil
		}
		all = append(all, table)
	}
	return all
}

// list fills a list with the tables of the file.
func (l *loader) list(key string, list reflect.Value, v any) {
	items := tables(v)
	if items == nil {
		l.mistake("%s: must be written as [[%s]] tables", key, key)
		return
	}
	list.Set(reflect.MakeSlice(list.Type(), len(items), len(items)))
	for n, item := range items {
		if d, ok := list.Index(n).Addr().Interface().(Defaulter); ok {
			d.SetDefaults()
		}
		walk(list.Index(n), element(key, n), func(s Setting) { l.settings[s.Key] = s }, nil)
		l.tree(element(key, n), item)
	}
}

func (l *loader) tree(prefix string, tree map[string]any) {
	names := make([]string, 0, len(tree))
	for name := range tree {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		key := prefix + name
		sub, isTable := tree[name].(map[string]any)
		s, known := l.settings[key]
		list, isList := l.lists[key]
		switch {
		case isList:
			l.list(key, list, tree[name])
		case prefix == "" && slices.Contains(l.elsewhere, name):
		case known && isTable:
			l.mistake("%s: must be a value, not a table", key)
		case known:
			l.value(s, tree[name])
			l.origin(s, l.path)
		case isTable && l.isTable(key):
			l.tree(key+".", sub)
		case l.isTable(key):
			l.mistake("%s: must be a table", key)
		default:
			l.mistake("%s: unknown setting%s", key, l.suggestion(key))
		}
	}
}

func (l *loader) isTable(key string) bool {
	for k := range l.settings {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

// suggestion finds a key with the same last word, for a setting in the wrong table, or a key that
// differs by a typo.
func (l *loader) suggestion(key string) string {
	best, distance := "", 3
	for k := range l.settings {
		if d := editDistance(k, key); d < distance || d == distance && k < best {
			best, distance = k, d
		}
		if k[strings.LastIndex(k, ".")+1:] == key[strings.LastIndex(key, ".")+1:] {
			best, distance = k, 0
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			previous, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, previous+cost)
		}
	}
	return row[len(b)]
}

// value sets a field to a value of the TOML file, whose type must match.
func (l *loader) value(s Setting, v any) {
	_, textual := s.Value.Addr().Interface().(encoding.TextUnmarshaler)
	kind := s.Value.Kind()
	switch v := v.(type) {
	case string:
		if textual || kind == reflect.String {
			l.text(s, s.Key, v)
			return
		}
	case int64:
		if textual || kind == reflect.Int || kind == reflect.Int64 || kind == reflect.Float64 {
			l.text(s, s.Key, strconv.FormatInt(v, 10))
			return
		}
	case float64:
		if kind == reflect.Float64 {
			s.Value.SetFloat(v)
			return
		}
	case bool:
		if kind == reflect.Bool {
			s.Value.SetBool(v)
			return
		}
	}
	l.mistake("%s: must be %s, not %s", s.Key, typeName(s.Value), typeName(reflect.ValueOf(v)))
}

func typeName(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "a number"
	case reflect.Int, reflect.Int64:
		if _, ok := v.Interface().(encoding.TextMarshaler); ok {
			return `a size such as "256MiB"`
		}
		return "a whole number"
	}
	return "a " + v.Kind().String()
}

// text sets a field from the text of a variable or a flag.
func (l *loader) text(s Setting, name, text string) {
	var err error
	if u, ok := s.Value.Addr().Interface().(encoding.TextUnmarshaler); ok {
		err = u.UnmarshalText([]byte(text))
	} else {
		switch s.Value.Kind() {
		case reflect.String:
			s.Value.SetString(text)
		case reflect.Bool:
			var b bool
			b, err = strconv.ParseBool(text)
			s.Value.SetBool(b)
		case reflect.Float64:
			var f float64
			f, err = strconv.ParseFloat(text, 64)
			s.Value.SetFloat(f)
		default:
			var n int64
			n, err = strconv.ParseInt(text, 10, 64)
			s.Value.SetInt(n)
		}
	}
	if err != nil {
		l.mistake("%s: must be %s, not %q", name, typeName(s.Value), text)
	}
}

// Suggestion returns "; did you mean KEY?" for a key that a struct does not have, "" if no key is
// similar.
func Suggestion(target any, key string) string {
	l := loader{settings: map[string]Setting{}}
	for _, s := range Settings(target) {
		l.settings[s.Key] = s
	}
	return l.suggestion(key)
}
