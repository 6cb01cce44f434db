package meta

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"github.com/akidb/akigw/vectors"
)

func TestCompact(t *testing.T) {
	deep := strings.Repeat("[", 31) + strings.Repeat("]", 31)
	for name, test := range map[string]struct {
		raw, want string
	}{
		"nothing":                  {"", ""},
		"null":                     {" null\n", ""},
		"empty object":             {"{ }", "{}"},
		"types":                    {`{ "s": "x", "n": -1.50e+2, "t": true, "f" : false, "a": [1, "2", true], "e": [] }`, `{"s":"x","n":-1.50e+2,"t":true,"f":false,"a":[1,"2",true],"e":[]}`},
		"numbers keep their text":  {`{"a":1.10,"b":1e2,"c":-0,"d":12345678901234567890,"e":1e-400}`, `{"a":1.10,"b":1e2,"c":-0,"d":12345678901234567890,"e":1e-400}`},
		"order of the client":      {`{"b":1,"a":2}`, `{"b":1,"a":2}`},
		"escapes":                  {`{"\u0061\/\n\u000a":"\ud83d\ude00\u00e9\u0001\"\\\u0022"}`, "{\"a/\\n\\n\":\"😀é\\u0001\\\"\\\\\\\"\"}"},
		"hidden keys are any JSON": {`{"hidden": {"x": null, "y": [{}, []]}}`, `{"hidden":{"x":null,"y":[{},[]]}}`},
		"hidden null":              {`{"hid/den":null}`, `{"hid/den":null}`},
		"deep":                     {`{"hidden":` + deep + `}`, `{"hidden":` + deep + `}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, p := Compact([]byte(test.raw), []string{"hidden", "hid/den"})
			if p != nil || string(got) != test.want {
				t.Errorf("Compact(%s) = %s, %v; want %s", test.raw, got, p, test.want)
			}
			if again, p := Compact(got, []string{"hidden", "hid/den"}); p != nil || string(again) != string(got) {
				t.Errorf("Compact(%s) = %s, %v; want the same", got, again, p)
			}
		})
	}
}

func TestCompactRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		raw, path, message string
	}{
		"array":             {`[]`, "", "must be a JSON object"},
		"string":            {`"x"`, "", "must be a JSON object"},
		"null value":        {`{"a":null}`, "/a", "must be a string, a number, a boolean, or an array"},
		"object value":      {`{"a~b/c":{"b":1}}`, "/a~0b~1c", "must be a string, a number, a boolean, or an array"},
		"null element":      {`{"a":[1,null]}`, "/a/1", "must be a string, a number or a boolean"},
		"array element":     {`{"a":[[]]}`, "/a/0", "must be a string, a number or a boolean"},
		"twice":             {`{"a":1,"\u0061":2}`, "/a", "must not appear twice"},
		"twice inside":      {`{"hidden":[{"a":1,"a":2}]}`, "/a", "must not appear twice"},
		"empty key":         {`{"":1}`, "/", "must not be an empty key"},
		"range":             {`{"a":1e400}`, "", "range of a 64-bit floating-point number"},
		"range, hidden":     {`{"hidden":-1e400}`, "", "range of a 64-bit floating-point number"},
		"invalid UTF-8":     {"{\"a\":\"\xff\"}", "", "valid UTF-8"},
		"surrogate":         {`{"a":"\ud83d"}`, "", "surrogate"},
		"surrogate, low":    {`{"a":"\ude00"}`, "", "surrogate"},
		"surrogate, twice":  {`{"a":"\ud83d\ud83d"}`, "", "surrogate"},
		"surrogate, cut":    {`{"a":"\ud83d\ude`, "", "surrogate"},
		"escape":            {`{"a":"\x"}`, "", "escape"},
		"escape, cut":       {`{"a":"\`, "", "escape"},
		"escape, digits":    {`{"a":"\u00g0"}`, "", "escape"},
		"control character": {"{\"a\":\"\n\"}", "", "control character"},
		"text after":        {`{} {}`, "", "after its end"},
		"no end":            {`{"a":1`, "", "no end"},
		"no end of array":   {`{"a":[1`, "", "no end"},
		"no end of string":  {`{"a":"x`, "", "no end"},
		"comma":             {`{"a":1,}`, "", "key is missing"},
		"comma in array":    {`{"a":[1,]}`, "", "must be valid JSON"},
		"colon":             {`{"a" 1}`, "", "colon"},
		"word":              {`{"a":True}`, "", "must be valid JSON"},
		"NaN":               {`{"a":NaN}`, "", "must be valid JSON"},
		"leading zero":      {`{"a":01}`, "", "must be valid JSON"},
		"plus":              {`{"a":+1}`, "", "must be valid JSON"},
		"point":             {`{"a":1.}`, "", "malformed"},
		"exponent":          {`{"a":1e}`, "", "malformed"},
		"minus":             {`{"a":-}`, "", "malformed"},
		"too deep":          {`{"hidden":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`, "", "nested too deeply"},
		"far too deep":      {strings.Repeat(`{"a":`, 1e6), "", "nested too deeply"},
	} {
		t.Run(name, func(t *testing.T) {
			got, p := Compact([]byte(test.raw), []string{"hidden"})
			if p == nil {
				t.Fatalf("Compact(%.100s) = %.100s", test.raw, got)
			}
			if p.Path != test.path || !strings.Contains(p.Message, test.message) {
				t.Errorf("Compact(%.100s) reports %q %q", test.raw, p.Path, p.Message)
			}
			if e := p.At("/vectors/3/metadata"); e.Code != vectors.Validation || e.Fields[0].Path != "/vectors/3/metadata"+test.path {
				t.Errorf("error %+v", e)
			}
		})
	}
}

func TestCompactLimits(t *testing.T) {
	keys := func(n int) string {
		var members []string
		for i := range n {
			members = append(members, fmt.Sprintf(`"k%d":1`, i))
		}
		return "{" + strings.Join(members, ", ") + "}"
	}
	sized := func(key string, bytes int) string { // an object of so many bytes
		return fmt.Sprintf(`{"%s":"%s"}`, key, strings.Repeat("x", bytes-len(key)-7))
	}
	both := func(filterable, all int) string {
		hidden := sized("hidden", all-filterable+1) // {f} and {h} become {f,h}
		return strings.TrimSuffix(sized("a", filterable), "}") + "," + strings.TrimPrefix(hidden, "{")
	}
	for name, test := range map[string]struct {
		raw string
		ok  bool
	}{
		"50 keys":              {keys(50), true},
		"51 keys":              {keys(51), false},
		"2048 filterable":      {sized("a", 2048), true},
		"2049 filterable":      {sized("a", 2049), false},
		"two members":          {strings.TrimSuffix(sized("a", 2048-6), "}") + `,"b":1}`, true},
		"two members, larger":  {strings.TrimSuffix(sized("a", 2048-5), "}") + `,"b":1}`, false},
		"40960 hidden":         {sized("hidden", 40960), true},
		"40961 hidden":         {sized("hidden", 40961), false},
		"both":                 {both(2048, 40960), true},
		"both, one more":       {both(2048, 40961), false},
		"both, one filterable": {both(2049, 40960), false},
		"white space":          {sized("a", 2048) + strings.Repeat(" ", 100_000), true},
		"escapes":              {`{"a":"` + strings.Repeat(`\u00e9`, 1000) + `"}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			doc, p := Compact([]byte(test.raw), []string{"hidden"})
			if (p == nil) != test.ok {
				t.Errorf("%d bytes: %v; want %v", len(doc), p, test.ok)
			}
			if p != nil && p.Path != "" {
				t.Errorf("path %q; want that of the object", p.Path)
			}
		})
	}
}

// semantics are documents and filters, and whether they match.
var semantics = []struct {
	metadata, filter string
	want             bool
}{
	{`{"a":"x"}`, `{"a":"x"}`, true},
	{`{"a":"x"}`, `{"a":"X"}`, false},
	{`{"a":"é\n"}`, `{"a":"\u00e9\u000a"}`, true},
	{`{"a":"x"}`, `{"a":{"$eq":"x"}}`, true},
	{`{"a":"x"}`, `{"\u0061":{"\u0024eq":"x"}}`, true},
	{`{"a":1}`, `{"a":1.0}`, true},
	{`{"a":1.10}`, `{"a":11e-1}`, true},
	{`{"a":1}`, `{"a":"1"}`, false},
	{`{"a":"1"}`, `{"a":1}`, false},
	{`{"a":true}`, `{"a":true}`, true},
	{`{"a":true}`, `{"a":false}`, false},
	{`{"a":true}`, `{"a":"true"}`, false},
	{`{"a":false}`, `{"a":{"$ne":true}}`, true},
	{`{"a":-0}`, `{"a":0}`, true},
	{`{"a":-0.0}`, `{"a":0}`, true},
	{`{"a":0}`, `{"a":-0.0}`, true},
	{`{"a":9007199254740993}`, `{"a":9007199254740992}`, false},
	{`{"a":9007199254740993}`, `{"a":{"$gt":9007199254740992}}`, true},
	{`{"a":9007199254740993}`, `{"a":{"$gt":9007199254740992.0}}`, true},
	{`{"a":9223372036854775807}`, `{"a":{"$lt":9223372036854775808}}`, true},
	{`{"a":9223372036854775807}`, `{"a":9223372036854775806}`, false},
	{`{"a":-9223372036854775808}`, `{"a":-9223372036854775808.0}`, true},
	{`{"a":1e300}`, `{"a":{"$gt":9223372036854775807}}`, true},

	{`{"a":["x","y"]}`, `{"a":"y"}`, true},
	{`{"a":["x","y"]}`, `{"a":"z"}`, false},
	{`{"a":["x",1,true]}`, `{"a":1.0}`, true},
	{`{"a":["x",1,true]}`, `{"a":true}`, true},
	{`{"a":["x","y"]}`, `{"a":{"$ne":"y"}}`, false},
	{`{"a":["x","y"]}`, `{"a":{"$ne":"z"}}`, true},
	{`{"a":["x","y"]}`, `{"a":{"$in":["z","y"]}}`, true},
	{`{"a":["x","y"]}`, `{"a":{"$nin":["z","y"]}}`, false},
	{`{"a":[]}`, `{"a":{"$nin":["z","y"]}}`, true},
	{`{"a":[]}`, `{"a":{"$exists":true}}`, true},
	{`{"a":[1,5]}`, `{"a":{"$gt":4}}`, true},
	{`{"a":[1,5]}`, `{"a":{"$gt":5}}`, false},

	{`{"a":5}`, `{"a":{"$gt":4}}`, true},
	{`{"a":5}`, `{"a":{"$gt":5}}`, false},
	{`{"a":5}`, `{"a":{"$gte":5}}`, true},
	{`{"a":5}`, `{"a":{"$gte":5.5}}`, false},
	{`{"a":5}`, `{"a":{"$lt":5}}`, false},
	{`{"a":5}`, `{"a":{"$lt":5.5}}`, true},
	{`{"a":5}`, `{"a":{"$lte":5}}`, true},
	{`{"a":5}`, `{"a":{"$lte":-5}}`, false},
	{`{"a":"5"}`, `{"a":{"$gt":4}}`, false},
	{`{"a":true}`, `{"a":{"$gte":0}}`, false},
	{`{"a":5}`, `{"a":{"$gt":4,"$lt":6}}`, true},
	{`{"a":5}`, `{"a":{"$gt":4,"$lt":5}}`, false},

	{`{"a":2}`, `{"a":{"$in":[3,2,1]}}`, true},
	{`{"a":2.0}`, `{"a":{"$in":["3",2,true]}}`, true},
	{`{"a":2}`, `{"a":{"$in":["2",true]}}`, false},
	{`{"a":"c"}`, `{"a":{"$in":["d","c","b"]}}`, true},
	{`{"a":"e"}`, `{"a":{"$in":["d","c","b"]}}`, false},
	{`{"a":"e"}`, `{"a":{"$nin":["d","c","b"]}}`, true},
	{`{"a":false}`, `{"a":{"$in":[true,false]}}`, true},

	{`{}`, `{"a":"x"}`, false},
	{`{}`, `{"a":{"$ne":"x"}}`, true},
	{`{}`, `{"a":{"$in":["x"]}}`, false},
	{`{}`, `{"a":{"$nin":["x"]}}`, true},
	{`{}`, `{"a":{"$gt":1}}`, false},
	{`{}`, `{"a":{"$lt":1}}`, false},
	{`{}`, `{"a":{"$exists":false}}`, true},
	{`{}`, `{"a":{"$exists":true}}`, false},
	{``, `{"a":{"$exists":false}}`, true},
	{``, `{"a":1}`, false},
	{`{"a":1}`, `{"a":{"$exists":true}}`, true},
	{`{"a":1}`, `{"a":{"$exists":false}}`, false},
	{`{"b":"a"}`, `{"a":{"$exists":true}}`, false},

	{`{"a":1,"b":2}`, `{"a":1,"b":2}`, true},
	{`{"a":1,"b":2}`, `{"a":1,"b":3}`, false},
	{`{"a":1,"b":2}`, `{"$and":[{"a":1},{"b":2}]}`, true},
	{`{"a":1,"b":2}`, `{"$and":[{"a":1},{"b":3}]}`, false},
	{`{"a":1,"b":2}`, `{"$or":[{"a":0},{"b":2}]}`, true},
	{`{"a":1,"b":2}`, `{"$or":[{"a":0},{"b":3}]}`, false},
	{`{"a":1,"b":2}`, `{"$or":[{"a":0},{"b":2}],"a":0}`, false},
	{`{"a":1,"b":2}`, `{"$and":[{"$or":[{"a":1},{"a":2}]},{"$or":[{"b":1},{"b":2}]}]}`, true},
	{`{"a":1,"b":2}`, `{"$or":[{"a":1,"b":3},{"b":2,"a":{"$gt":1}}]}`, false},
	{`{"a":"\"},{","b":2}`, `{"b":2}`, true},
	{`{"a":["\\","]"],"b":2}`, `{"b":2}`, true},
	{`{"h":{"b":3,"x":"}"},"b":2}`, `{"b":2}`, true},
	{`{"b":2,"h":{"b":3}}`, `{"b":3}`, false},
	{`{"` + `"`, `{"b":3}`, false},
}

func TestMatch(t *testing.T) {
	for _, test := range semantics {
		f, err := Parse([]byte(test.filter), []string{"h"})
		if err != nil {
			t.Fatalf("Parse(%s): %v", test.filter, err)
		}
		if got := f.Match([]byte(test.metadata)); got != test.want {
			t.Errorf("%s matches %s: %v, want %v", test.filter, test.metadata, got, test.want)
		}
	}
}

// TestMatchManyFields has a filter of more fields than Match keeps on the stack.
func TestMatchManyFields(t *testing.T) {
	var all []string
	for i := range 40 {
		all = append(all, fmt.Sprintf(`"k%d":%d`, i, i))
	}
	doc := []byte("{" + strings.Join(all, ",") + "}")
	f, err := Parse(doc, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Match(doc) || f.Match([]byte(strings.Replace(string(doc), `"k39":39`, `"k39":38`, 1))) {
		t.Error("a filter of 40 fields does not compare them all")
	}
}

func TestParseRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		filter, path, message string
	}{
		"nothing":             {``, "", "must be valid JSON"},
		"null":                {`null`, "", "at least one condition"},
		"array":               {`[]`, "", "at least one condition"},
		"empty":               {`{}`, "", "at least one condition"},
		"invalid":             {`{"a":}`, "", "must be valid JSON"},
		"twice":               {`{"a":1,"a":2}`, "/a", "must not appear twice"},
		"null value":          {`{"a":null}`, "/a", "must be a string"},
		"array value":         {`{"a":["x"]}`, "/a", "must be a string"},
		"no operator":         {`{"a":{}}`, "/a", "at least one operator"},
		"unknown operator":    {`{"a":{"$regex":"x"}}`, "/a/$regex", "is not an operator"},
		"field in a field":    {`{"a":{"b":1}}`, "/a/b", "is not an operator"},
		"$and in a field":     {`{"a":{"$and":[{"a":1}]}}`, "/a/$and", "is not an operator"},
		"$not":                {`{"$not":{"a":1}}`, "/$not", "is not an operator that combines"},
		"$eq at the top":      {`{"$eq":1}`, "/$eq", "is not an operator that combines"},
		"$eq array":           {`{"a":{"$eq":[1]}}`, "/a/$eq", "must be a string"},
		"$eq object":          {`{"a":{"$eq":{}}}`, "/a/$eq", "must be a string"},
		"$ne null":            {`{"a":{"$ne":null}}`, "/a/$ne", "must be a string"},
		"$gt string":          {`{"a":{"$gt":"1"}}`, "/a/$gt", "must be a number"},
		"$gte boolean":        {`{"a":{"$gte":true}}`, "/a/$gte", "must be a number"},
		"$lt array":           {`{"a":{"$lt":[1]}}`, "/a/$lt", "must be a number"},
		"$lte null":           {`{"a":{"$lte":null}}`, "/a/$lte", "must be a number"},
		"$in value":           {`{"a":{"$in":1}}`, "/a/$in", "must be an array"},
		"$in empty":           {`{"a":{"$in":[]}}`, "/a/$in", "at least one value"},
		"$nin empty":          {`{"a":{"$nin":[]}}`, "/a/$nin", "at least one value"},
		"$in null":            {`{"a":{"$in":[1,null]}}`, "/a/$in/1", "must be a string"},
		"$nin nested":         {`{"a":{"$nin":[[1]]}}`, "/a/$nin/0", "must be a string"},
		"$exists number":      {`{"a":{"$exists":1}}`, "/a/$exists", "must be a boolean"},
		"$and object":         {`{"$and":{"a":1}}`, "/$and", "must be an array"},
		"$and empty":          {`{"$and":[]}`, "/$and", "at least one filter"},
		"$or empty":           {`{"$or":[]}`, "/$or", "at least one filter"},
		"$or of nothing":      {`{"$or":[{"a":1},{}]}`, "/$or/1", "at least one condition"},
		"$or of a value":      {`{"$or":["a"]}`, "/$or/0", "at least one condition"},
		"not filterable":      {`{"hid/den":1}`, "/hid~1den", "not filterable"},
		"not filterable deep": {`{"$or":[{"a":1},{"$and":[{"hid/den":{"$exists":true}}]}]}`, "/$or/1/$and/0/hid~1den", "not filterable"},
		"range":               {`{"a":{"$gt":1e999}}`, "", "range"},
		"too deep":            {strings.Repeat(`{"$and":[`, 17) + `{"a":1}` + strings.Repeat(`]}`, 17), "", "nested too deeply"},
		"too large":           {`{"a":"` + strings.Repeat("x", MaxFilterBytes) + `"}`, "", "at most 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(test.filter), []string{"hid/den"})
			var e *vectors.Error
			if !errors.As(err, &e) || e.Code != vectors.Validation || len(e.Fields) != 1 {
				t.Fatalf("Parse(%.100s): %v", test.filter, err)
			}
			if f := e.Fields[0]; f.Path != "/filter"+test.path || !strings.Contains(f.Message, test.message) {
				t.Errorf("Parse(%.100s) reports %q %q", test.filter, f.Path, f.Message)
			}
		})
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	f, err := Parse([]byte(`{"genre":"drama","year":{"$gte":1999.5},"tags":{"$in":["x","y","z"]}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	doc := []byte(`{"title":"A long title of a film","genre":"drama","year":2001.25,"tags":["a","b","z"]}`)
	if n := testing.AllocsPerRun(100, func() {
		if !f.Match(doc) {
			t.Error("no match")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	f, err := Parse([]byte(`{"genre":"drama","year":{"$gte":1999}}`), nil)
	if err != nil {
		b.Fatal(err)
	}
	doc := []byte(`{"title":"A long title of a film","genre":"drama","year":2001,"tags":["a","b","z"]}`)
	for b.Loop() {
		f.Match(doc)
	}
}

// TestNumberOrder compares numbers with exact arithmetic.
func TestNumberOrder(t *testing.T) {
	texts := []string{"0", "-0", "-0.0", "1", "1.0", "10e-1", "0.1", "0.10", "-1", "123456789012345", "1234567890123456", "9007199254740991",
		"9007199254740992", "9007199254740993", "9007199254740992.0", "9007199254740994", "-9007199254740993", "9223372036854775807",
		"9223372036854775806", "9223372036854775295", "9223372036854775296", "9223372036854774784", "9223372036854775808", "9223372036854775808.0",
		"18446744073709551616", "-9223372036854775808", "-9223372036854775807", "-9223372036854775809", "1e308", "-1e308", "5e-324", "1e-400"}
	exact := func(text string) *big.Float {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return new(big.Float).SetInt64(n)
		}
		f, _ := strconv.ParseFloat(text, 64)
		return big.NewFloat(f)
	}
	for _, a := range texts {
		for _, b := range texts {
			x, okX := parseNumber([]byte(a))
			y, okY := parseNumber([]byte(b))
			if want := exact(a).Cmp(exact(b)); !okX || !okY || x.compare(y) != want {
				t.Errorf("%s and %s: compare is %d, want %d", a, b, x.compare(y), want)
			}
		}
	}
	for _, text := range []string{"", "-", "true", "Inf", "nan", "0x10", `"1"`} {
		if n, ok := parseNumber([]byte(text)); ok {
			t.Errorf("%q is the number %v", text, n)
		}
	}
}

func TestAppendFilterable(t *testing.T) {
	for metadata, want := range map[string]string{
		"":                             "",
		"{}":                           "{}",
		`{"a":1,"b":[2]}`:              `{"a":1,"b":[2]}`,
		`{"h":{"a":2},"a":1}`:          `{"a":1}`,
		`{"a":1,"h":"},","b":"x"}`:     `{"a":1,"b":"x"}`,
		`{"h":null}`:                   `{}`,
		`{"a":["\\\"",1],"x\"y":[[]]}`: `{"a":["\\\"",1]}`,
	} {
		var doc []byte
		if metadata != "" {
			doc = []byte(metadata)
		}
		if got := AppendFilterable([]byte("before"), doc, []string{"h", `x"y`}); string(got) != "before"+want {
			t.Errorf("AppendFilterable(%s) = %s, want %s", metadata, got, want)
		}
	}
}
