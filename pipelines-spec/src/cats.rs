//! `LuaCATS` types, as the table of modules writes them, read into a small tree: what the JSON Schema is made from, so that
//! the editor's stubs, the schema and the documentation cannot disagree.

/// A type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    /// `string`, `boolean`, `rivet.Stage`, …
    Name(String),
    /// `"read"`
    Literal(String),
    /// `T[]`
    List(Box<Type>),
    /// `table<string, T>`
    Map(Box<Type>),
    /// `{ a?: T, b: T }`: name, whether it may be left out, type.
    Shape(Vec<(String, bool, Type)>),
    /// `A|B`
    Union(Vec<Type>),
    /// `fun(…): …`
    Function,
}

/// The type a text stands for; `None` where it is not one.
pub(crate) fn parse(text: &str) -> Option<Type> {
    let mut reader = Reader { rest: text };
    let kind = reader.union()?;
    reader.rest.trim().is_empty().then_some(kind)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn union(&mut self) -> Option<Type> {
        let mut members = vec![self.postfix()?];
        while self.eat("|") {
            members.push(self.postfix()?);
        }
        if members.len() > 1 { Some(Type::Union(members)) } else { members.pop() }
    }

    fn postfix(&mut self) -> Option<Type> {
        let mut kind = self.primary()?;
        loop {
            if self.eat("[]") {
                kind = Type::List(Box::new(kind));
            } else if self.eat("?") {
                kind = Type::Union(vec![kind, Type::Name("nil".into())]);
            } else {
                return Some(kind);
            }
        }
    }

    fn primary(&mut self) -> Option<Type> {
        if self.eat("(") {
            let inner = self.union()?;
            return self.eat(")").then_some(inner);
        }
        if self.eat("\"") {
            let (text, rest) = self.rest.split_once('"')?;
            self.rest = rest;
            return Some(Type::Literal(text.to_owned()));
        }
        if self.eat("{") {
            return self.shape();
        }
        if self.eat("table<") {
            self.union()?;
            let value = self.eat(",").then(|| self.union())??;
            return self.eat(">").then(|| Type::Map(Box::new(value)));
        }
        if self.eat("fun(") {
            return self.function();
        }
        let name = self.word()?;
        Some(Type::Name(name))
    }

    fn shape(&mut self) -> Option<Type> {
        let mut fields = Vec::new();
        while !self.eat("}") {
            let name = self.word()?;
            let optional = self.eat("?");
            if !self.eat(":") {
                return None;
            }
            fields.push((name, optional, self.union()?));
            self.eat(",");
        }
        Some(Type::Shape(fields))
    }

    /// What a function takes and gives matters to nobody here, but its end does.
    fn function(&mut self) -> Option<Type> {
        while !self.eat(")") {
            self.word()?;
            self.eat("?");
            if self.eat(":") {
                self.union()?;
            }
            self.eat(",");
        }
        if self.eat(":") {
            self.postfix()?;
            while self.eat(",") {
                self.postfix()?;
            }
        }
        Some(Type::Function)
    }

    fn word(&mut self) -> Option<String> {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then(|| word.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lua::modules::{BUILDER_METHODS, CLASSES, Field, Function, MODULES};

    #[test]
    fn every_type_of_the_table_can_be_read() {
        let functions = MODULES.iter().flat_map(|m| m.functions).chain(BUILDER_METHODS);
        let functions: Vec<&Function> = functions.chain(CLASSES.iter().flat_map(|c| c.methods)).collect();
        let params = functions.iter().flat_map(|f| f.params);
        let fields = CLASSES.iter().flat_map(|c| c.fields).chain(MODULES.iter().flat_map(|m| m.fields));
        for Field { name, kind, .. } in params.chain(fields) {
            assert!(parse(kind).is_some(), "{name}: {kind}");
        }
        for function in functions.into_iter().filter(|f| !f.returns.is_empty()) {
            assert!(parse(function.returns).is_some(), "{}: {}", function.name, function.returns);
        }
    }

    #[test]
    fn types_nest() {
        let name = |n: &str| Type::Name(n.into());
        assert_eq!(
            parse("boolean|{ types?: string[] }|table<string, (\"a\"|rivet.X)[]>"),
            Some(Type::Union(vec![
                name("boolean"),
                Type::Shape(vec![("types".into(), true, Type::List(Box::new(name("string"))))]),
                Type::Map(Box::new(Type::List(Box::new(Type::Union(vec![
                    Type::Literal("a".into()),
                    name("rivet.X")
                ]))))),
            ]))
        );
        assert_eq!(parse("fun(value: any): boolean, string?"), Some(Type::Function));
        assert_eq!(parse("string|"), None);
        assert_eq!(parse("{ a: }"), None);
    }
}
