//! Methods that are answered by positions on an image: where to click, which cells, how far to turn.
//! Each has its own answer format (2captcha docs), which a function below the rows composes.

use super::row::{DEFAULTS, Kind, Method, PRESENT, Param, Solution, optional, required, without_proxy};
use super::value::{Payload, Value};

const IMAGE: Param = required(&["body", "file", "image"], "body", Kind::Image);
const COMMENT: Param = optional(&["textinstructions", "hintText"], "comment", Kind::Text);
const PICTURE: Param = optional(&["imginstructions", "hintImg"], "imgInstructions", Kind::Image);
const MIN_CLICKS: Param = optional(&["min_clicks"], "minClicks", Kind::Integer);
const MAX_CLICKS: Param = optional(&["max_clicks"], "maxClicks", Kind::Integer);
const CAN_NO_ANSWER: Param = optional(&["can_no_answer"], "canNoAnswer", Kind::Flag);
const PREVIOUS_ID: Param = optional(&["previousID", "previous_id"], "previousId", Kind::PreviousTask);

pub(super) static ROWS: &[&Method] = &[
    &Method {
        name: "canvas",
        legacy: &["post", "base64"],
        when: &[("canvas", "1")],
        task_type: without_proxy("DrawAroundTask"),
        params: &[IMAGE, COMMENT, PICTURE, CAN_NO_ANSWER, PREVIOUS_ID],
        any_of: &[&["comment", "imgInstructions"]],
        solution: Solution::Composed(canvas),
        ..DEFAULTS
    },
    &Method {
        name: "grid",
        legacy: &["post", "base64"],
        when: &[("recaptcha", "1")],
        // 2captcha's PHP, Java, Go and C++ libraries never send `recaptcha=1`.
        also_when: &[("recaptcharows", PRESENT), ("recaptchacols", PRESENT)],
        task_type: without_proxy("GridTask"),
        params: &[
            IMAGE,
            optional(&["recaptcharows", "rows"], "rows", Kind::Integer),
            optional(&["recaptchacols", "cols"], "columns", Kind::Integer),
            COMMENT,
            PICTURE,
            MIN_CLICKS,
            MAX_CLICKS,
            PREVIOUS_ID,
            CAN_NO_ANSWER,
            optional(&["img_type"], "imgType", Kind::Text),
        ],
        // The documents require an instruction, but the minimal examples of 2captcha's libraries send none.
        solution: Solution::Composed(grid),
        ..DEFAULTS
    },
    &Method {
        name: "coordinates",
        legacy: &["post", "base64"],
        when: &[("coordinatescaptcha", "1")],
        task_type: without_proxy("CoordinatesTask"),
        params: &[IMAGE, COMMENT, PICTURE, MIN_CLICKS, MAX_CLICKS],
        solution: Solution::Composed(coordinates),
        ..DEFAULTS
    },
    &Method {
        name: "rotate",
        legacy: &["rotatecaptcha"],
        task_type: without_proxy("RotateTask"),
        params: &[
            required(&["file", "body"], "body", Kind::Images),
            optional(&["angle"], "angle", Kind::Decimal),
            COMMENT,
            PICTURE,
        ],
        solution: Solution::Text(&["rotate"]),
        ..DEFAULTS
    },
    &Method {
        name: "bounding_box",
        legacy: &["bounding_box"],
        task_type: without_proxy("BoundingBoxTask"),
        params: &[required(&["image", "body", "file"], "body", Kind::Image), COMMENT, PICTURE, CAN_NO_ANSWER],
        any_of: &[&["comment", "imgInstructions"]],
        solution: Solution::Composed(bounding_box),
        ..DEFAULTS
    },
    &Method {
        name: "temuimage",
        legacy: &["temuimage"],
        task_type: without_proxy("TemuCaptchaTask"),
        params: &[
            required(&["body"], "image", Kind::Image),
            required(&["part1", "part2", "part3"], "parts", Kind::ImageList),
        ],
        solution: Solution::Composed(coordinates),
        ..DEFAULTS
    },
    &Method {
        name: "drag_drop",
        legacy: &["drag_drop"],
        task_type: without_proxy("DragAndDropTask"),
        params: &[
            required(&["body", "file"], "image", Kind::Image),
            required(&["images"], "images", Kind::ImageArray),
            COMMENT,
            PICTURE,
        ],
        solution: Solution::Composed(drag_drop),
        ..DEFAULTS
    },
];

/// Returns the answer if nothing on the image matches, which the client must have allowed (2captcha docs,
/// `can_no_answer`). The upstream sends either a text or an empty list.
fn no_match(found: &Value) -> Option<Payload> {
    const NO_MATCH: &str = "No_matching_images";
    if found.items().is_some_and(<[Value]>::is_empty) {
        return Some(Payload::Text(NO_MATCH.to_owned()));
    }
    found.scalar().map(|text| Payload::Text(text.to_owned()))
}

/// Composes `coordinates:x=39,y=59;x=…`; in JSON a list of objects with numbers as strings (seen in a client's test).
fn coordinates(solution: &Value) -> Option<Payload> {
    let found = solution.get("coordinates")?;
    if let Some(no_match) = no_match(found) {
        return Some(no_match);
    }
    let points = points(found)?;
    let texts: Vec<String> = points.iter().map(|(x, y)| format!("x={x},y={y}")).collect();
    let member = |name: &str, text: &str| (name.to_owned(), Value::Text(text.to_owned()));
    let json = points.iter().map(|(x, y)| Value::Record(vec![member("x", x), member("y", y)]));
    Some(Payload::Composed { text: format!("coordinates:{}", texts.join(";")), json: Value::List(json.collect()) })
}

/// Composes `120,340|null|210,90`: the target of each image, or `null` for an image that is not moved
/// (2captcha-javascript's README).
fn drag_drop(solution: &Value) -> Option<Payload> {
    let target = |point: &Value| match point {
        Value::Null => Some("null".to_owned()),
        point => Some(format!("{},{}", point.get("x")?.scalar()?, point.get("y")?.scalar()?)),
    };
    let targets: Option<Vec<String>> = solution.get("coordinates")?.items()?.iter().map(target).collect();
    Some(Payload::Text(targets?.join("|")))
}

/// Composes `click:3/8/9`: the numbers of the cells.
fn grid(solution: &Value) -> Option<Payload> {
    let found = solution.get("click")?;
    if let Some(no_match) = no_match(found) {
        return Some(no_match);
    }
    let numbers: Option<Vec<&str>> = found.items()?.iter().map(Value::scalar).collect();
    Some(Payload::Text(format!("click:{}", numbers?.join("/"))))
}

/// Composes `canvas:x,y,x,y;x,y;`: one line after the other.
fn canvas(solution: &Value) -> Option<Payload> {
    let found = solution.get("canvas")?;
    if let Some(no_match) = no_match(found) {
        return Some(no_match);
    }
    let mut text = "canvas:".to_owned();
    for line in found.items()? {
        let numbers: Vec<String> = points(line)?.into_iter().map(|(x, y)| format!("{x},{y}")).collect();
        text.push_str(&numbers.join(","));
        text.push(';');
    }
    Some(Payload::Text(text))
}

/// Composes a list of boxes as JSON text; in JSON the same list as a string (2captcha docs).
fn bounding_box(solution: &Value) -> Option<Payload> {
    let found = solution.get("bounding_boxes")?;
    no_match(found).or_else(|| found.items().map(|_| Payload::Text(found.to_json())))
}

fn points(list: &Value) -> Option<Vec<(String, String)>> {
    let point = |point: &Value| Some((point.get("x")?.scalar()?.to_owned(), point.get("y")?.scalar()?.to_owned()));
    list.items()?.iter().map(point).collect()
}
