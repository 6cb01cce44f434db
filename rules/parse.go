package rules

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Table is the name of the tables that Parse reads: [[rule]].
const Table = "rule"

// Parse parses the [[rule]] tables of a configuration file and ignores the rest of the file. The
// error lists all mistakes by line.
func Parse(file []byte) ([]Rule, error) {
	var tree struct {
		Rule any `toml:"rule"`
	}
	if err := toml.Unmarshal(file, &tree); err != nil {
		return nil, err
	}
	if tree.Rule == nil {
		return nil, nil
	}
	tables, ok := tree.Rule.([]any)
	lines := linesOf(file)
	if !ok || len(lines) != len(tables) {
		return nil, errors.New("rule: must be written as [[rule]] tables")
	}
	if len(tables) > maxRules {
		return nil, fmt.Errorf("rule: %d rules are more than %d", len(tables), maxRules)
	}
	var mistakes []error
	rules := make([]Rule, len(tables))
	for i, t := range tables {
		table, _ := t.(map[string]any) // cannot fail: a [[rule]] is a table
		rules[i] = Rule{Bucket: "*", Key: "*", Line: lines[i][""]}
		for _, name := range slices.Sorted(maps.Keys(table)) {
			line := cmp.Or(lines[i][name], rules[i].Line)
			if err := rules[i].take(name, table[name], line); err != nil {
				mistakes = append(mistakes, fmt.Errorf("line %d: rule.%s: %w", line, name, err))
			}
		}
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	return rules, nil
}

// take sets one field of a rule.
func (r *Rule) take(name string, v any, line int) error {
	switch name {
	case "bucket":
		return setPattern(&r.Bucket, v)
	case "key":
		return setPattern(&r.Key, v)
	}
	for i, f := range fields {
		if f.name == name {
			r.values[i] = value{set: true, v: v, line: line}
			return f.set(new(Settings), v)
		}
	}
	return errors.New("unknown setting")
}

func setPattern(pattern *string, v any) error {
	text, ok := v.(string)
	if !ok || text == "" {
		return errors.New("must be a pattern")
	}
	*pattern = text
	return nil
}

// linesOf finds the line of each [[rule]] table, under the name "", and those of its fields.
func linesOf(file []byte) (tables []map[string]int) {
	var p unstable.Parser
	p.Reset(file)
	in := false
	for p.NextExpression() {
		node := p.Expression()
		if node.Kind != unstable.KeyValue && node.Kind != unstable.Table && node.Kind != unstable.ArrayTable {
			continue
		}
		key := node.Key()
		key.Next()
		name, line := string(key.Node().Data), p.Shape(key.Node().Raw).Start.Line
		switch {
		case node.Kind == unstable.ArrayTable:
			if in = name == Table; in {
				tables = append(tables, map[string]int{"": line})
			}
		case node.Kind == unstable.Table:
			in = false
		case in:
			tables[len(tables)-1][name] = line
		}
	}
	return tables
}
