//! A browser: it keeps its cookie, says where its forms come from, and follows nothing by itself.

use crate::world::{ADMIN, Instance};

pub struct Browser {
    http: reqwest::Client,
    pub cookie: String,
}

/// An answer, read to its end.
pub struct Page {
    pub status: u16,
    pub location: String,
    pub policy: String,
    pub set_cookie: String,
    pub text: String,
}

impl Browser {
    pub fn new() -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, cookie: String::new() }
    }

    /// Signed in with the admin's token.
    pub async fn admin(instance: &Instance) -> Self {
        let mut browser = Self::new();
        let page = browser.post(instance, "/sign-in", &[("token", ADMIN), ("next", "/setup")]).await;
        assert_eq!((page.status, page.location.as_str()), (303, "/setup"));
        browser.keep(&page);
        browser
    }

    pub fn keep(&mut self, page: &Page) {
        self.cookie = page.set_cookie.split(';').next().unwrap().to_owned();
    }

    pub async fn get(&self, instance: &Instance, path: &str) -> Page {
        let request = self.http.get(format!("{}{path}", instance.url)).header("cookie", &self.cookie);
        read(request.send().await.unwrap()).await
    }

    /// The word this session's forms carry.
    pub async fn csrf(&self, instance: &Instance) -> String {
        self.get(instance, "/setup").await.attribute("name=\"csrf\" value=\"")
    }

    pub async fn post(&self, instance: &Instance, path: &str, fields: &[(&str, &str)]) -> Page {
        self.post_from(&instance.url, instance, path, fields).await
    }

    pub async fn post_from(&self, origin: &str, instance: &Instance, path: &str, fields: &[(&str, &str)]) -> Page {
        let request = self.http.post(format!("{}{path}", instance.url)).header("cookie", &self.cookie);
        let request = request.header("origin", origin).form(&fields);
        read(request.send().await.unwrap()).await
    }

    /// Posts a form that may hold files.
    pub async fn post_files(&self, instance: &Instance, path: &str, fields: &[(&str, &str)]) -> Page {
        let boundary = "----a-line-between-fields";
        let mut body = String::new();
        for (name, value) in fields {
            let file = if name.ends_with("_file") { "; filename=\"app.pem\"" } else { "" };
            body +=
                &format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n");
        }
        body += &format!("--{boundary}--\r\n");
        let request = self.http.post(format!("{}{path}", instance.url)).header("cookie", &self.cookie);
        let request = request.header("origin", &instance.url);
        let request = request.header("content-type", format!("multipart/form-data; boundary={boundary}")).body(body);
        read(request.send().await.unwrap()).await
    }

    /// Posts a form to another site and answers where that sends the browser.
    pub async fn post_away(&self, action: &str, fields: &[(&str, &str)]) -> String {
        let page = read(self.http.post(action).form(&fields).send().await.unwrap()).await;
        assert_eq!(page.status, 302, "{}", page.text);
        page.location
    }
}

async fn read(response: reqwest::Response) -> Page {
    let header = |name: &str| response.headers().get(name).map_or("", |v| v.to_str().unwrap()).to_owned();
    let (location, policy, set_cookie) = (header("location"), header("content-security-policy"), header("set-cookie"));
    Page { status: response.status().as_u16(), location, policy, set_cookie, text: response.text().await.unwrap() }
}

impl Page {
    /// What stands between `before` and the next quote, as a browser would read it.
    pub fn attribute(&self, before: &str) -> String {
        let rest = self.text.split(before).nth(1).unwrap_or_else(|| panic!("no {before} in {}", self.text));
        unescaped(rest.split('"').next().unwrap())
    }

    /// The sentences of the page's alert.
    pub fn alert(&self) -> String {
        let rest = self.text.split("role=\"alert\">").nth(1).unwrap_or("");
        let part = rest.split("</div>").next().unwrap_or("").split("<form").next().unwrap_or("");
        let lines: Vec<String> = part.split("</p>").map(plain).filter(|line| !line.is_empty()).collect();
        lines.join("\n")
    }

    /// What the page shows from `begin` up to `end`, without its markup: a line for each point, row and paragraph.
    pub fn shown(&self, begin: &str, end: &str) -> String {
        let part = self.text.split(begin).nth(1).unwrap_or_else(|| panic!("no {begin} in {}", self.text));
        let part = part
            .split(end)
            .next()
            .unwrap()
            .replace("<p", "\n<p")
            .replace("</td><td", "</td> <td")
            .replace("</th><td", "</th> <td");
        let lines: Vec<String> = part.split('\n').map(plain).filter(|line| !line.is_empty()).collect();
        lines.join("\n")
    }
}

fn plain(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => inside = false,
            c if !inside => text.push(c),
            _ => {}
        }
    }
    unescaped(text.trim())
}

fn unescaped(text: &str) -> String {
    let pairs = [
        ("&#34;", "\""),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&#60;", "<"),
        ("&#62;", ">"),
        ("&#38;", "&"),
        ("&amp;", "&"),
    ];
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}
