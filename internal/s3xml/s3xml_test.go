package s3xml

import (
	"bytes"
	"encoding/xml"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// awkward has every character that needs attention.
var awkward = func() string {
	var b strings.Builder
	for c := rune(1); c < ' '; c++ {
		b.WriteRune(c)
	}
	b.WriteString("\r\n a&b<c>d\"e'f]]>g\x7f\u0085\u2028\uFFFD\uFFFE\uFFFF\uE000" + mark + "self" + mark + "0001ü漢\U0001F600")
	return b.String()
}()

func TestHolds(t *testing.T) {
	for text, want := range map[string]bool{"": true, "a/b\t\r\n": true, "\uFFFD": true, mark: true, "a\x00": false, "\x01": false, "\x1f": false, "\uFFFE": false, "\uFFFF": false, "\xff": false} {
		if got := Holds(text); got != want {
			t.Errorf("Holds(%q) is %v", text, got)
		}
	}
}

func TestAppendEscaped(t *testing.T) {
	for text, want := range map[string]string{
		"":              "",
		"plain/ü":       "plain/ü",
		"\x01":          "&#x1;",
		"a\x1fb":        "a&#x1F;b",
		"\t\n\r":        "&#x9;&#xA;&#xD;",
		`<&>"'`:         "&lt;&amp;&gt;&#34;&#39;",
		"\uFFFE\uFFFF.": "&#xFFFE;&#xFFFF;.",
		"\uFFFD":        "\uFFFD",
		"a\x00b\xffc":   "a\uFFFDb\uFFFDc",
	} {
		if got := string(AppendEscaped(nil, text)); got != want {
			t.Errorf("%q is written as %q, want %q", text, got, want)
		}
	}
}

// listing has the kinds of fields of the gateway's documents: names, nested elements, and raw XML.
type listing struct {
	XMLName  xml.Name `xml:"List"`
	Prefix   Text
	Contents []struct {
		Key string
		Raw []byte `xml:",innerxml"`
	}
	CommonPrefixes []struct{ Prefix string }
	Owner          *struct {
		ID string `xml:"id,attr"`
	}
	Any []struct {
		XMLName xml.Name
		Value   string `xml:",chardata"`
	} `xml:",any"`
}

func TestUnmarshalReadsForbiddenCharacters(t *testing.T) {
	document := `<?xml version="1.0"?><!-- &#x1; --><List><Prefix>a&#1;` + "\x02" + `b</Prefix><Contents><Key>&#x0b;k` + mark + `&#x10FFFD;</Key><Size>1</Size></Contents>
<CommonPrefixes><Prefix><![CDATA[&#x1;` + mark + "\x03" + `]]></Prefix></CommonPrefixes><Owner id="&#xFFFF;"/><Other>` + "\uFFFE" + `&#xd;</Other></List>`
	var got listing
	if err := Unmarshal([]byte(document), &got); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, got, want string }{
		{"Prefix", string(got.Prefix), "a\x01\x02b"},
		{"Key", got.Contents[0].Key, "\x0bk" + mark + mark},
		{"the elements of Contents", string(got.Contents[0].Raw), "<Key>&#xB;k" + mark + mark + "</Key><Size>1</Size>"},
		{"a CDATA section", got.CommonPrefixes[0].Prefix, "&#x1;" + mark + "\x03"},
		{"an attribute", got.Owner.ID, "\uFFFF"},
		{"any other element", got.Any[0].Value, "\uFFFE\r"},
	} {
		if c.got != c.want {
			t.Errorf("%s is %q, want %q", c.what, c.got, c.want)
		}
	}
	for _, bad := range []string{"<List><Prefix>&#0;</Prefix></List>", "<List><Prefix>\x00</Prefix></List>", "<List>&#x1", "<List>\xff</List>", ""} {
		if err := Unmarshal([]byte(bad), &listing{}); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestUnmarshalStrict(t *testing.T) {
	type document struct{ Key string }
	for name, c := range map[string]struct{ text, key string }{
		"a reference":          {"<Delete><Key>&#x1;&#13;</Key></Delete>", "\x01\r"},
		"a decimal reference":  {"<Delete><Key>&#31;</Key></Delete>", "\x1f"},
		"CDATA":                {"<Delete><Key><![CDATA[&#x1;]]></Key></Delete>", "&#x1;"},
		"a namespace":          {`<Delete xmlns="` + Namespace + `"><Key>k</Key></Delete>`, "k"},
		"a bare control":       {"<Delete><Key>\x01</Key></Delete>", ""},
		"a bare noncharacter":  {"<Delete><Key>\uFFFE</Key></Delete>", ""},
		"another root":         {"<Other><Key>k</Key></Other>", ""},
		"two roots":            {"<Delete><Key>k</Key></Delete><Delete/>", ""},
		"text behind the root": {"<Delete><Key>k</Key></Delete>x", ""},
		"a document type":      {"<!DOCTYPE Delete><Delete><Key>k</Key></Delete>", ""},
		"seventeen levels":     {"<Delete>" + strings.Repeat("<a>", 16) + strings.Repeat("</a>", 16) + "</Delete>", ""},
		"nothing":              {"", ""},
		"an open end":          {"<Delete><Key>k</Key>", ""},
	} {
		var got document
		err := UnmarshalStrict([]byte(c.text), "Delete", &got)
		if (err == nil) != (c.key != "") || err == nil && got.Key != c.key {
			t.Errorf("%s: key %q, %v", name, got.Key, err)
		}
	}
}

func TestMarshal(t *testing.T) {
	got, err := Marshal(listing{Prefix: Text(awkward)})
	if err != nil {
		t.Fatal(err)
	}
	var back listing
	if err := Unmarshal(got, &back); err != nil || string(back.Prefix) != awkward {
		t.Errorf("%v: %q came back as %q", err, awkward, back.Prefix)
	}
	if !bytes.HasPrefix(got, []byte(Header+"<List><Prefix>&#x1;&#x2;")) {
		t.Errorf("written as %q", got)
	}
}

// FuzzRoundTrip: any valid S3 key is read back unchanged by all readers.
func FuzzRoundTrip(f *testing.F) {
	f.Add(awkward)
	f.Add(mark + mark + "sel")
	f.Fuzz(func(t *testing.T, key string) {
		if !utf8.ValidString(key) || strings.ContainsRune(key, 0) {
			t.Skip()
		}
		var b bytes.Buffer
		b.WriteString(Header + "<Delete>")
		WriteElement(&b, "Key", key)
		b.WriteString("</Delete>")
		for name, read := range map[string]func(any) error{
			"Unmarshal":       func(v any) error { return Unmarshal(b.Bytes(), v) },
			"UnmarshalStrict": func(v any) error { return UnmarshalStrict(b.Bytes(), "Delete", v) },
		} {
			var got struct {
				Key string
				Raw []byte `xml:",innerxml"`
			}
			if err := read(&got); err != nil || got.Key != key {
				t.Errorf("%s: %v: %q came back as %q", name, err, key, got.Key)
			}
			if want := "<Key>" + string(AppendEscaped(nil, key)) + "</Key>"; string(got.Raw) != want {
				t.Errorf("%s: the elements of %q are %q, want %q", name, key, got.Raw, want)
			}
		}
		if Holds(key) {
			var got struct{ Key string }
			if err := xml.Unmarshal(b.Bytes(), &got); err != nil || got.Key != key {
				t.Errorf("encoding/xml: %v: %q came back as %q", err, key, got.Key)
			}
		}
	})
}

// FuzzUnmarshal: documents that encoding/xml accepts give the same result, and nothing panics.
func FuzzUnmarshal(f *testing.F) {
	for _, seed := range []string{"<List><Prefix>a</Prefix></List>", "<List><Prefix>&#x1;</Prefix></List>", "<List><![CDATA[&#x1;]]><!-- &#1; --></List>", "<List><Prefix>" + mark + "0001</Prefix></List>", "<!DOCTYPE a [<!-- ]]> -->]><List/>", "<?a b?><List>&#x10FFFD;</List>"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		var want, got, strict listing
		wanted, err := xml.Unmarshal(document, &want), Unmarshal(document, &got)
		if wanted == nil && (err != nil || !reflect.DeepEqual(got, want)) {
			t.Errorf("%q: %v: %+v, encoding/xml reads %+v", document, err, got, want)
		}
		if UnmarshalStrict(document, "List", &strict) == nil && !reflect.DeepEqual(strict, got) {
			t.Errorf("%q: strictly %+v, else %+v", document, strict, got)
		}
	})
}

func BenchmarkUnmarshal(b *testing.B) {
	document := []byte("<List>" + strings.Repeat("<Contents><Key>some/key/of/a/usual/length</Key><ETag>&quot;0123456789abcdef0123456789abcdef&quot;</ETag></Contents>", 1000) + "</List>")
	for name, read := range map[string]func([]byte, any) error{"ours": Unmarshal, "encodingxml": xml.Unmarshal} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := read(document, &listing{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
