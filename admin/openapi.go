package admin

import (
	"cmp"
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// object is a JSON object.
type object = map[string]any

// openAPI serves a description of the API, generated from the routes and the types of their
// responses.
func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.document()) }

// document returns the OpenAPI 3.0 document.
func (s *Server) document() object {
	schemas, paths := object{}, map[string]object{}
	for _, r := range s.routes() {
		if r.summary == "" {
			continue
		}
		if paths[r.path] == nil {
			paths[r.path] = object{}
		}
		paths[r.path][strings.ToLower(cmp.Or(r.method, http.MethodGet))] = s.operation(r, schemas)
	}
	return object{
		"openapi": "3.0.3",
		"info": object{"title": "akigw admin API", "version": s.Version, "description": "Reading requires no key on loopback unless admin_keys_only is set or the route says so; everything else requires an admin key: " +
			"a request signed with signature version 4 (service s3), HTTP basic authentication over loopback, or a session of the console."},
		"paths": paths,
		"components": object{"schemas": schemas, "securitySchemes": object{
			"basic":   object{"type": "http", "scheme": "basic"},
			"session": object{"type": "apiKey", "in": "cookie", "name": cookieName},
		}},
	}
}

var pathParameter = regexp.MustCompile(`{([a-z]+)}`)

// operation describes a route.
func (s *Server) operation(r route, schemas object) object {
	parameters := []object{}
	for _, m := range pathParameter.FindAllStringSubmatch(r.path, -1) {
		parameters = append(parameters, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, p := range r.query {
		parameters = append(parameters, object{"name": p.name, "in": "query", "description": p.text, "required": p.needed, "schema": object{"type": "string"}})
	}
	content := object{}
	var answer any = done{}
	if r.answer != nil {
		answer = r.answer
	}
	switch {
	case r.stream == "":
		content["application/json"] = object{"schema": schemaOf(reflect.TypeOf(answer), schemas)}
	case r.answer != nil: // the type of each line or event
		content[r.stream] = object{"schema": object{"type": "string"}, "x-each": schemaOf(reflect.TypeOf(answer), schemas)}
	default:
		content[r.stream] = object{"schema": object{"type": "string"}}
	}
	text := object{"text/plain": object{"schema": object{"type": "string"}}}
	o := object{
		"summary": r.summary, "parameters": parameters,
		"responses": object{"200": object{"description": "success", "content": content}, "default": object{"description": "failure, with the reason", "content": text}},
	}
	if !r.open && (r.method != "" || r.private) {
		o["security"] = []object{{"basic": []string{}}, {"session": []string{}}}
	}
	switch {
	case r.body != nil:
		o["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": schemaOf(reflect.TypeOf(r.body), schemas)}}}
	case r.text != "":
		o["requestBody"] = object{"content": object{r.text: object{"schema": object{"type": "string"}}}}
	}
	return o
}

// schemaOf returns the JSON schema of a type. Named structs are added to schemas.
func schemaOf(t reflect.Type, schemas object) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return object{}
	}
	if t.Implements(reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()) {
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		s := schemaOf(t.Elem(), schemas)
		if _, named := s["$ref"]; named {
			return object{"allOf": []object{s}, "nullable": true}
		}
		s["nullable"] = true
		return s
	case reflect.Slice, reflect.Array:
		return object{"type": "array", "items": schemaOf(t.Elem(), schemas), "nullable": true}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": schemaOf(t.Elem(), schemas), "nullable": true}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Struct:
	case reflect.Interface: // any type
		return object{"nullable": true}
	default:
		return object{"type": "integer"}
	}
	name := t.Name()
	if name == "" {
		return object{"type": "object", "properties": properties(t, schemas)}
	}
	if pkg := t.PkgPath(); !strings.HasSuffix(pkg, "/admin") {
		name = pkg[strings.LastIndexByte(pkg, '/')+1:] + "." + name
	}
	if schemas[name] == nil {
		schemas[name] = object{} // set first, because the type may contain itself
		schemas[name] = object{"type": "object", "properties": properties(t, schemas)}
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// properties returns the fields of a struct, including those of embedded structs.
func properties(t reflect.Type, schemas object) object {
	all := object{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case f.Anonymous && name == "":
			embedded := f.Type
			if embedded.Kind() == reflect.Pointer {
				embedded = embedded.Elem()
			}
			for key, value := range properties(embedded, schemas) {
				all[key] = value
			}
		default:
			all[cmp.Or(name, f.Name)] = schemaOf(f.Type, schemas)
		}
	}
	return all
}
